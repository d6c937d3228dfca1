"""The keeper's commands: the address in one place, and no secret or machine path in the tree."""

import re
import subprocess

import pytest

from helpers import environment
from tools import repository

ADDRESS = re.compile(r"github\.com/([\w.-]+/[\w.-]+?)(?=[\"'/)\s\\]|$)|github/([\w.-]+/[\w.-]+)/blob")


def addresses(path):
    return {first or second for first, second in ADDRESS.findall(path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("path", [path for path in repository.files() if path.suffix == ".ipynb"], ids=lambda path: path.stem)
def test_badge_and_bootstrap_name_the_one_address(path):
    assert addresses(path) == {repository.current()}
    assert path.read_text(encoding="utf-8").count(repository.current()) >= 2


def test_a_new_address_reaches_every_file(tmp_path, monkeypatch):
    old = repository.current()
    copies = []
    for path in repository.files():
        copy = tmp_path / path.relative_to(environment.ROOT)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        copies.append(copy)
    monkeypatch.setattr(repository, "ROOT", tmp_path)

    repository.rename("some-one/a.name_2")

    assert repository.current() == "some-one/a.name_2"
    assert not any(old in addresses(copy) for copy in copies)
    assert all("some-one/a.name_2" in addresses(copy) for copy in copies)


def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=environment.ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [environment.ROOT / name for name in listed.stdout.split("\0") if name and (environment.ROOT / name).is_file()]


def test_no_tracked_file_is_large_and_results_are_small():
    sizes = {path: path.stat().st_size for path in tracked()}
    assert [path.name for path, size in sizes.items() if size > 1_000_000] == []
    assert sum(size for path, size in sizes.items() if "results" in path.parts) < 5_000_000


def test_no_tracked_file_holds_a_machine_path():
    pattern = re.compile(r"/(?:root|home|Users|work|tmp)/\w")
    allowed = {"test_tools.py"}
    found = [
        path.relative_to(environment.ROOT).as_posix()
        for path in tracked()
        if path.suffix in {".py", ".md", ".ipynb", ".json", ".jsonl", ".txt", ".toml", ".csv", ""} and path.name not in allowed
        if pattern.search(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []
