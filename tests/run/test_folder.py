"""The run folder: files that are whole or absent, a configuration that results cannot belie, a record that may travel."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, finish, names

from helpers import setup
from helpers.run.files import write_text
from helpers.run.folder import OUTPUTS, MissingStep, Run, find_runs
from helpers.run.machine import Gpu

pytestmark = pytest.mark.usefixtures("plain_machine")


@pytest.fixture
def run(tmp_path):
    """A new run of the smallest preset."""
    return setup.start(tmp_path / "runs" / "mine", "smoke")[0]


# Files, whole or not at all


def test_a_file_is_written_with_its_folders_and_readable_by_others(tmp_path):
    path = write_text(tmp_path / "data" / "notes.txt", "Zoë\n")
    assert path.read_bytes() == "Zoë\n".encode()
    assert path.stat().st_mode & 0o777 == 0o644
    assert names(path.parent) == ["notes.txt"]


def test_two_programs_that_add_to_one_record_lose_nothing(tmp_path):
    code = """if True:
        import pathlib, sys
        from helpers.run.folder import Run
        run, name = Run(pathlib.Path(sys.argv[1])), sys.argv[2]
        run.write_text(f"ready_{name}", "")
        while not all((run / f"ready_{one}").is_file() for one in "ab"):
            pass
        for number in range(100):
            run.add_to_record(**{f"{name}{number}": number})
    """
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name], cwd=ROOT) for name in "ab"]
    assert [one.wait(60) for one in both] == [0, 0]
    assert Run(tmp_path).record() == {f"{name}{number}": number for name in "ab" for number in range(100)}


@pytest.fixture
def full_disk(monkeypatch):
    """A disk that takes the bytes into its cache and fails to store them, as full ones do."""

    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, full_disk):
    (tmp_path / "notes.txt").write_text("old")

    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "notes.txt", "new")

    assert (tmp_path / "notes.txt").read_text() == "old"
    assert names(tmp_path) == ["notes.txt"]


def test_a_full_disk_leaves_no_new_file(tmp_path, full_disk):
    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "notes.txt", "new")
    assert names(tmp_path) == []


def test_text_that_cannot_be_encoded_leaves_the_old_file_and_nothing_else(run):
    before = names(run.path)
    run.write_text("notes.txt", "old")

    with pytest.raises(UnicodeEncodeError):
        run.write_text("notes.txt", "new \ud800")

    assert (run / "notes.txt").read_text() == "old"
    assert names(run.path) == sorted([*before, "notes.txt"])


def test_rows_that_are_no_json_leave_the_old_file(run):
    run.write_jsonl("rows.jsonl", [{"n": 1}])
    with pytest.raises(TypeError):
        run.write_jsonl("rows.jsonl", [{"n": 2}, {"n": {1, 2}}])
    assert run.read_jsonl("rows.jsonl") == [{"n": 1}]


@pytest.mark.parametrize("text", ["O'Brien\n", "Zoë \u2028 next", "a\r\nb", "tab\t\x0b\x85"])
def test_rows_come_back_as_they_were_written(run, text):
    rows = [{"text": text}, {"text": None, "n": 0.1}]
    run.write_jsonl("rows.jsonl", rows)
    assert run.read_jsonl("rows.jsonl") == rows


def test_a_folder_takes_its_place_when_its_block_ends(run):
    with run.new_folder("data") as folder:
        (folder / "train.jsonl").write_text("{}")
        assert not (run / "data").exists()
    assert names(run / "data") == ["train.jsonl"]


def test_a_new_folder_replaces_the_old_one_whole(run):
    finish(run, "data")
    before = names(run.path)

    with run.new_folder("data") as folder:
        (folder / "dev.jsonl").write_text("{}")

    assert names(run / "data") == ["dev.jsonl"]
    assert names(run.path) == before
    assert (run / "data").stat().st_mode & 0o777 == 0o755


def test_a_folder_whose_block_fails_leaves_the_old_one_and_nothing_else(run):
    finish(run, "data")
    before = names(run.path)

    with pytest.raises(OSError, match="No space left"), run.new_folder("data") as folder:
        (folder / "dev.jsonl").write_text("{}")
        raise OSError(errno.ENOSPC, "No space left on device")

    assert names(run / "data") == ["train.jsonl"]
    assert names(run.path) == before


def test_an_interrupt_counts_as_a_failure(run):
    before = names(run.path)
    with pytest.raises(KeyboardInterrupt), run.new_folder("data"):
        raise KeyboardInterrupt
    assert names(run.path) == before


def test_a_folder_that_cannot_be_renamed_leaves_the_old_one_in_its_place(run, monkeypatch):
    finish(run, "data")
    before = names(run.path)
    rename = Path.rename

    def fail_into_place(path, target):
        if target == run / "data" and not path.name.endswith(".old"):
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_into_place)
    with pytest.raises(OSError, match="not empty"), run.new_folder("data"):
        pass

    assert names(run / "data") == ["train.jsonl"]
    assert names(run.path) == before


KILLED_WRITES = {
    "write_text, before the bytes are stored": """
        files.os.fsync = die
        files.write_text(target / "results", "new " * 100_000)
    """,
    "write_text, before the rename": """
        files.os.replace = die
        files.write_text(target / "results", "new " * 100_000)
    """,
    "new_folder": """
        with Run(target).new_folder("folder") as folder:
            (folder / "results").write_text("new")
            die()
    """,
}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system knows no SIGKILL")
@pytest.mark.parametrize("action", KILLED_WRITES.values(), ids=KILLED_WRITES.keys())
@pytest.mark.parametrize("old", [None, "old"])
def test_a_program_killed_while_it_writes_leaves_no_half_file_under_the_final_name(tmp_path, action, old):
    final = [tmp_path / "results", tmp_path / "folder" / "results"]
    for path in final if old else []:
        path.parent.mkdir(exist_ok=True)
        path.write_text(old)
    program = f"""
        import os, signal, sys
        from pathlib import Path
        from helpers.run import files
        from helpers.run.folder import Run
        target = Path(sys.argv[1])
        def die(*_): os.kill(os.getpid(), signal.SIGKILL)
        {action.strip()}
    """
    program = re.sub(r"^ {8}", "", program, flags=re.MULTILINE)

    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.read_text() if path.exists() else None for path in final] == [old, old]


@pytest.mark.parametrize("content", [b"", b'{"preset": "smo', b"\x00\x00\x00", b"\xff\xfe{}"])
def test_a_damaged_file_is_named_with_what_to_do(run, content):
    (run / "model.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"mine/model\.json is damaged .*: delete it and run its notebook again"):
        run.read_json("model.json")


# A step that is missing


def test_a_notebook_without_its_predecessor_names_it_and_the_runs_that_have_its_result(run):
    for name, stages in (("with-data", ["data"]), ("without", [])):
        finish(setup.start(run.path.parent / name, "smoke")[0], *stages)

    with pytest.raises(MissingStep) as missing:
        setup.open_run(run.path, None, stage="train", needs="data")

    text = str(missing.value)
    assert "mine has no data/train.jsonl, which 04 Train reads." in text
    assert "02 Data writes it: run notebooks/02_data.ipynb with run_dir='" in text
    assert re.search(r"\(found: [^,]*/with-data\)\.$", text)
    assert len(text.splitlines()) <= 4


def test_a_notebook_without_any_run_names_01_setup(tmp_path):
    with pytest.raises(MissingStep, match=r"no config\.json, which 02 Data reads[^$]*notebooks/01_setup\.ipynb[^$]*found: none"):
        setup.open_run(tmp_path / "mine", None, stage="data", needs="setup")
    assert names(tmp_path) == [], "looking for a run makes none"


@pytest.mark.parametrize("stage", OUTPUTS)
def test_the_notebook_that_a_message_names_is_there(stage):
    _, notebook, name = OUTPUTS[stage]
    assert (ROOT / "notebooks" / notebook).is_file()
    assert notebook.startswith(name[:2])


def test_find_runs_gives_the_folders_that_hold_a_configuration_by_name(tmp_path):
    for name in ("b", "a"):
        setup.start(tmp_path / name, "smoke")
    (tmp_path / "no run").mkdir()
    (tmp_path / "file").touch()
    assert [found.path.name for found in find_runs(tmp_path)] == ["a", "b"]


def test_find_runs_in_a_folder_that_is_not_there_finds_none(tmp_path):
    assert find_runs(tmp_path / "nowhere") == []


# The record


def test_the_record_says_what_was_asked_for_and_on_what(tmp_path, plain_machine):
    plain_machine(Gpu(name="NVIDIA H200", memory_gib=139.8, capability=(9, 0)))
    record = setup.start(tmp_path / "mine", "smoke", seed=7)[0].record()

    wanted = {"preset": "smoke", "model_name": "tiny-random-llama", "data_source": "sample", "prompt_style": "schema"}
    assert record.items() >= (wanted | {"seed": 7, "overrides": {"seed": 7}, "gpu": "NVIDIA H200"}).items()
    assert record["versions"].keys() >= {"python", "sqlite"}
    assert "git_commit" in record


def test_the_record_of_a_machine_without_a_gpu_says_null(run):
    assert json.loads((run / "record.json").read_text())["gpu"] is None


def test_the_record_holds_no_absolute_path(tmp_path):
    run, _ = setup.start(tmp_path / "mine", "smoke", model_name=str(tmp_path / "model"), data_source=str(tmp_path / "data"))
    assert str(tmp_path) not in (run / "record.json").read_text()
    assert run.record()["overrides"] == {"model_name": "model", "data_source": "data"}
    assert run.config().model_name == str(tmp_path / "model"), "the run itself still needs the path"


def test_a_new_entry_replaces_one_of_its_name_and_keeps_the_others(run):
    run.add_to_record(train={"steps": 4})
    run.add_to_record(train={"steps": 8}, evaluation={})
    assert run.record().items() >= {"train": {"steps": 8}, "evaluation": {}, "preset": "smoke"}.items()


def test_the_record_of_a_folder_without_one_is_empty(tmp_path):
    assert Run(tmp_path).record() == {}
