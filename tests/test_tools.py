"""The keeper's commands: the address in one place, and no secret or machine path in the tree."""

import base64
import json
import re
import subprocess

import pytest

from helpers.run import machine
from helpers.run.folder import Run
from tools import judging, keep, repository, tables

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
        copy = tmp_path / path.relative_to(machine.ROOT)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        copies.append(copy)
    monkeypatch.setattr(repository, "ROOT", tmp_path)

    repository.rename("some-one/a.name_2")

    assert repository.current() == "some-one/a.name_2"
    assert not any(old in addresses(copy) for copy in copies)
    assert all("some-one/a.name_2" in addresses(copy) for copy in copies)


def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=machine.ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [machine.ROOT / name for name in listed.stdout.split("\0") if name and (machine.ROOT / name).is_file()]


def test_no_tracked_file_is_large_and_results_are_small():
    sizes = {path: path.stat().st_size for path in tracked()}
    assert [path.name for path, size in sizes.items() if size > 1_000_000] == []
    assert sum(size for path, size in sizes.items() if "results" in path.parts) < 3_000_000


def test_no_tracked_file_holds_a_machine_path():
    pattern = re.compile(r"/(?:root|home|Users|work|tmp)/\w")
    allowed = {"test_tools.py"}
    found = [
        path.relative_to(machine.ROOT).as_posix()
        for path in tracked()
        if path.suffix in {".py", ".md", ".ipynb", ".json", ".jsonl", ".txt", ".toml", ".csv", ""} and path.name not in allowed
        if pattern.search(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []


# ---- evidence


def test_the_tables_say_what_the_records_say():
    stale = [path.name for path, text in tables.pages().items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run `make tables`"


def headings(path):
    """What a link may name in a page, as GitHub makes it of its headings."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


LINKING = [
    *(machine.ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((machine.ROOT / "results").glob("*.md")),
    *sorted((machine.ROOT / "notebooks").glob("*.ipynb")),
]


@pytest.mark.parametrize("path", LINKING, ids=lambda path: path.name)
def test_links_within_the_tree_lead_somewhere(path):
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, heading = link.partition("#")
        there = (path.parent / name).resolve() if name else path
        if not there.exists() or (heading and heading not in headings(there)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("/home/me/course/runs/x/model", "model"),
        ("see https://github.com/a/b and runs/course/data", "see https://github.com/a/b and runs/course/data"),
        ("<td>1</td> 3/4 </b>", "<td>1</td> 3/4 </b>"),
        ('"/opt/venv/lib/python3.11/site.py:3: UserWarning"', '"site.py:3: UserWarning"'),
    ],
)
def test_kept_text_loses_folders_and_nothing_else(text, kept):
    assert keep.without_folders(text) == kept


@pytest.mark.parametrize(
    "file", sorted((machine.ROOT / "results").glob("*/*.ipynb")), ids=lambda file: f"{file.parent.name}-{file.stem}"
)
def test_pictures_in_kept_notebooks_are_whole(file):
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            picture = "".join(output.get("data", {}).get("image/png", ""))
            if picture:
                raw = base64.b64decode(picture, validate=False)
                assert raw.startswith(b"\x89PNG") and raw.rstrip().endswith(b"IEND\xaeB`\x82")


@pytest.mark.parametrize("file", sorted((machine.ROOT / "results").glob("*/record.json")), ids=lambda file: file.parent.name)
def test_a_kept_record_is_whole_and_of_this_history(file):
    record = json.loads(file.read_text(encoding="utf-8"))
    lines = (file.parent / "predictions.txt").read_text(encoding="utf-8").splitlines()
    commit = record["git_commit"].rstrip("+")

    assert len(lines) == record["evaluation"]["questions"]
    assert record["train"]["steps"] > 0 and record["data_sha256"] and record["model_source"]
    shallow = subprocess.run(["git", "rev-parse", "--is-shallow-repository"], cwd=machine.ROOT, capture_output=True, text=True)
    if shallow.stdout.strip() != "false":
        pytest.skip("not a whole git checkout")
    done = subprocess.run(["git", "merge-base", "--is-ancestor", commit, "HEAD"], cwd=machine.ROOT, capture_output=True)
    assert done.returncode == 0, f"{commit} is no ancestor"


def test_a_trial_becomes_one_line_of_the_ledger_in_place_of_its_older_one(tmp_path):
    run, ledger = Run(tmp_path / "r64"), tmp_path / "ledger.jsonl"
    ledger.write_text('{"trial": "r16"}\n{"trial": "r64", "seed": 1}\n', encoding="utf-8")
    run.add_to_record(seed=2, model_name="/home/me/models/tiny")
    keep.add_to_ledger(run, ledger)
    lines = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    assert lines == [{"trial": "r16"}, {"trial": "r64", "seed": 2, "model_name": "tiny"}]


def test_every_trial_of_the_ledger_names_its_settings_score_and_commit():
    names = []
    for line in keep.LEDGER.read_text(encoding="utf-8").splitlines():
        trial = json.loads(line)
        names.append(trial["trial"])
        assert trial["git_commit"] and trial["overrides"] is not None and trial["evaluation"]["decoding"]
        assert trial["evaluation"]["questions"] > 0 and 0 <= trial["evaluation"]["tuned"]["ex"] <= 100
    assert len(set(names)) == len(names) > 0


@pytest.mark.parity
@pytest.mark.spider
def test_every_repaired_verdict_has_a_fault_by_name(spider_dir, parity_dir):
    dev = judging.Pairs("dev", spider_dir, parity_dir)
    found = {place for find in (judging.execution_faults, judging.match_faults) for _, place in find(dev)}
    assert found == {place for field in ("exec", "exact") for place in dev.changed(field)}
