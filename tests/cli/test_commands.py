"""What all commands have in common."""

import os
import subprocess
import sys
from collections import deque

import matplotlib
import pytest
from conftest import command

from helpers.__main__ import main
from helpers.databases import reading, sandbox
from helpers.run import machine
from helpers.run.folder import find_runs

matplotlib.use("Agg")


COMMANDS = ["run", "runs", "judge", "compare", "neighbours", "ask", "demo", "pairs", "export"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_explains_itself(capsys, name):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: python -m helpers {name}" in capsys.readouterr().out


def test_help_lists_every_command_quickly():
    done = command("--help", timeout=20)
    assert done.returncode == 0 and "usage: python -m helpers" in done.stdout
    assert [name for name in COMMANDS if f"\n    {name}" not in done.stdout] == []


def test_the_judge_imports_nothing_that_needs_torch():
    code = "import sys, helpers.judge.verdicts, helpers.databases.sandbox; print([m for m in ('torch', 'transformers', 'trl') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=machine.ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_run_lists_only_complete_folders(tmp_path):
    (tmp_path / "half").mkdir()
    assert find_runs(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_what_is_no_regular_file_is_not_written_over(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    for out in (tmp_path / "pipe", tmp_path / "file" / "below.json"):
        arguments = ["judge", "--gold", "gold.txt", "--pred", "pred.txt", "--db", str(tmp_path), "--out", str(out)]
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith(f"Refused: --out {out}")
    assert (tmp_path / "pipe").is_fifo()


def test_a_sandbox_that_cannot_start_is_said_without_a_traceback(call, monkeypatch, concert_db, tmp_path):
    monkeypatch.setattr(reading, "_idle", deque())
    monkeypatch.setattr(sandbox, "WORKER", "raise SystemExit('no room')")
    code, _, err = call("pairs", concert_db, "--to", tmp_path / "made")
    assert code in (1, 2)
    assert "The process that runs queries cannot be started: no room" in err
