"""SQL as a tree: which sqlglot is taken."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

from helpers.databases import sql


def test_the_oldest_sqlglot_is_that_of_the_requirements():
    assert f"sqlglot>={sql.OLDEST}," in (ROOT / "requirements-common.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("version", ["25.20.1", "28.0.0", "30.24.9"])
def test_an_older_sqlglot_is_refused_in_words(version):
    code = f"import sqlglot; sqlglot.__version__ = {version!r}; import runpy; runpy.run_module('helpers', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.match(rf"Refused: sqlglot {version} is too old.*{sql.OLDEST} or newer:\n  pip install", done.stderr), done.stderr


@pytest.mark.parametrize(
    ("declared", "affinity"),
    [
        *[("INT", "INTEGER"), ("unsigned big int", "INTEGER"), ("FLOATING POINT", "INTEGER"), ("CHARINT", "INTEGER")],
        *[("VARCHAR(10)", "TEXT"), ("clob", "TEXT"), ("BLOB", "BLOB"), ("DOUBLE PRECISION", "REAL"), ("FLOAT", "REAL")],
        *[("DATE", "NUMERIC"), ("BOOLEAN", "NUMERIC"), ("DECIMAL(10,2)", "NUMERIC"), ("STRING", "NUMERIC")],
    ],
)
def test_a_type_has_the_affinity_that_sqlite_gives_it(declared, affinity):
    assert sql.affinity(declared) == affinity
