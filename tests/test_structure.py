"""The house: rooms on floors, files and functions of a size that one reads at once, notebooks that show few doors."""

import ast
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT, cells_of

import helpers

HELPERS = ROOT / "helpers"
# From the ground up: a file imports from its own room and from those before it.
ROOMS = [
    *("run", "databases", "judge", "prompts", "sources", "setup", "data", "models", "trainer", "decoding", "report"),
    *("train", "evaluate", "apps", "cli", "worker", "__main__"),
]
STEPS = ("setup", "data", "models", "train", "evaluate")
FILES = [path for path in sorted(HELPERS.rglob("*.py")) if path != HELPERS / "__init__.py"]


def room(path):
    return path.relative_to(HELPERS).with_suffix("").parts[0]


def imported(code):
    """The rooms and steps that Python code imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "helpers":
            found |= {node.module.split(".")[1]} if "." in node.module else {alias.name for alias in node.names}
    return found


def test_a_room_imports_only_rooms_below_it():
    floors = {name: floor for floor, name in enumerate(ROOMS)}
    upward = [(str(path), other) for path in FILES for other in imported(path.read_text()) if floors[other] > floors[room(path)]]
    assert upward == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HELPERS)))
def test_files_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    assert [node.name for node in functions if node.end_lineno - node.lineno >= 60] == []
    assert len(text.splitlines()) <= (300 if path.stem in STEPS and path.parent == HELPERS else 400)


def test_a_room_says_what_lives_there_and_holds_nothing_else():
    for folder in {path.parent for path in FILES} - {HELPERS}:
        (said,) = ast.parse((folder / "__init__.py").read_text()).body
        assert len(ast.get_docstring(ast.Module([said], [])).split()) > 15, folder


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_imports_steps_report_and_at_most_two_rooms(path: Path):
    code = "\n".join(cell["source"] for cell in cells_of(path, "code"))
    assert len(imported(code) - {"report", *STEPS}) <= 2


def test_the_version_that_files_carry_is_the_projects():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == helpers.__version__
