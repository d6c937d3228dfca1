"""Run folders in use, full, unwritable, damaged, foreign or newer: each is said in words that name the place."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, command, copied_run, written

import helpers
from helpers.run import files
from helpers.run.folder import Run

DAMAGED = {
    "a list": b"[]",
    "null": b"null",
    "text": b"hello",
    "half": b'{"values": {"seed": 1',
    "no text": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "nothing": b"",
    "another program's": b'{"architectures": ["LlamaForCausalLM"], "hidden_size": 64}',
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_run_config_is_refused_by_name(trained_run, tmp_path, call, damage):
    run = copied_run(trained_run, tmp_path)
    (run / "config.json").write_bytes(DAMAGED[damage])
    code, _, err = call("ask", "marina", "How many boats?", "--run-dir", run.path)
    assert code == 2
    assert "config.json" in err and "Traceback" not in err


@pytest.mark.parametrize("name", ["prompt_config.json", "adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_adapter_is_refused_by_name(trained_run, tmp_path, call, name, damage):
    run = copied_run(trained_run, tmp_path)
    (run / "adapter" / name).write_bytes(DAMAGED[damage])
    code, _, err = call("ask", "marina", "How many boats?", "--model", run / "adapter")
    assert code == 2
    assert name in err and "Traceback" not in err


def test_settings_of_a_newer_version_are_refused_with_both_versions(trained_run, tmp_path, call):
    run = copied_run(trained_run, tmp_path)
    for file, key in ((run / "config.json", "values"), (run / "adapter/prompt_config.json", "settings")):
        content = json.loads(file.read_text())
        assert content["version"] == helpers.__version__
        content["version"], content[key]["beam_of_light"] = "9.9.9", 3
        file.write_text(json.dumps(content))
    for option, path in (("--run-dir", run.path), ("--model", run / "adapter")):
        code, _, err = call("ask", "marina", "How many boats?", option, path)
        assert code == 2
        assert f"written by version 9.9.9 (this is {helpers.__version__}): this version does not know beam_of_light" in err


@pytest.mark.parametrize("part", ["evaluation", "train"])
@pytest.mark.parametrize("value", [[1], "x", 5])
def test_a_damaged_record_hides_no_other_run(trained_run, tmp_path, call, monkeypatch, part, value):
    good, bad = copied_run(trained_run, tmp_path, "good"), copied_run(trained_run, tmp_path, "bad")
    bad.write_json("record.json", bad.record() | {part: value})
    monkeypatch.setenv("RUN_DIR", str(good.path))
    code, out, err = call("runs")
    assert code == 1
    assert "good" in out and "bad/record.json" in err


# ---- runs that collide, and places without room


def test_a_second_run_in_a_folder_is_refused(tmp_path, call):
    run = Run(tmp_path / "run")
    with run.alone():
        code, _, err = call("run", "--preset", "smoke", "--run-dir", run.path)
    assert code == 2
    assert err.startswith(f"Refused: Another `python -m helpers run` works in {run}")
    with run.alone():
        pass  # free again


def test_a_run_folder_in_a_circle_of_links_is_refused(tmp_path, call):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    code, _, err = call("run", "--preset", "smoke", "--run-dir", tmp_path / "loop/run")
    assert code == 2 and "Traceback" not in err


@pytest.mark.parametrize("place", ["cache", "run"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, call, monkeypatch, place):
    blocked = written(tmp_path / "file", "x")
    monkeypatch.setenv("COURSE_CACHE", str(blocked if place == "cache" else tmp_path / "cache"))
    code, _, err = call("run", "--preset", "smoke", "--run-dir", blocked / "run" if place == "run" else tmp_path / "run")
    assert code == 2
    assert err.startswith("Refused: The cache folder" if place == "cache" else "Refused: The run folder")
    assert str(blocked) in err


@pytest.mark.parametrize(
    "text",
    [
        "[Errno 28] No space left on device: 'x'",
        "Error while serializing: I/O error: No space left on device (os error 28)",
        "[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing file data/2: file write failed",
        "[Errno 122] Disk quota exceeded",
    ],
)
def test_a_full_disk_is_known_by_its_words(text):
    assert files.is_disk_full(text) and files.is_disk_full(RuntimeError(text))
    assert not files.is_disk_full("CUDA out of memory")


@contextlib.contextmanager
def small_disk(folder, size):
    """A disk of so many bytes; skips where this machine lets nobody mount one."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("this user cannot mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("mount"), reason="there is no mount")
@pytest.mark.parametrize("kilobytes", [200, 400, 900, 1_700, 2_300])
def test_a_run_on_a_full_disk_says_so_and_goes_on_once_there_is_room(tmp_path, kilobytes):
    disk = tmp_path / "disk"
    with small_disk(disk, kilobytes * 1024):
        line = ["run", "--preset", "smoke", "--run-dir", disk / "run"]
        done = command(*line, timeout=300)
        assert done.returncode == 1
        assert "is full" in done.stderr and "NotJSONError" not in done.stderr and "Traceback" not in done.stderr
        subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
        assert command(*line, timeout=300).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_run_that_is_killed_fifty_times_ends_as_one_that_is_not(tmp_path):
    chance = random.Random(0)
    settings = {"max_steps": 40, "save_steps": 2, "eval_questions": 12}
    parameters = [text for name, value in settings.items() for text in ("-p", name, str(value))]

    def line(folder):
        return [sys.executable, "-m", "helpers", "run", "--preset", "smoke", "--run-dir", str(folder), *parameters]

    subprocess.run(line(tmp_path / "unbroken"), cwd=ROOT, check=True, capture_output=True)
    for _ in range(50):
        process = subprocess.Popen(
            line(tmp_path / "killed"), cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(chance.uniform(2, 45))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for file in (tmp_path / "killed").rglob("*.json"):
            if not any(part.startswith(".") for part in file.parts) and "checkpoint" not in str(file):
                json.loads(file.read_text())  # whole, or not there
    subprocess.run(line(tmp_path / "killed"), cwd=ROOT, check=True, capture_output=True)
    for name in ("evaluation/predictions.txt", "adapter/adapter_model.safetensors", "data/train.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes(), name
