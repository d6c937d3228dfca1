"""What two GPUs bring: the comparison of arms, and all of it over gloo on processor cores."""

import argparse
import os
import subprocess
import sys
import time

import psutil
import pytest

from tools import scaling

pytest.importorskip("torch")
pytest.importorskip("trl")


def arm(pace, *losses):
    return {"pace": pace, "losses": list(losses)}


def answers(seconds, *texts):
    return {"seconds": seconds, "answers": [[[text, log]] for text, log in texts]}


def test_arms_become_speedups_and_differences():
    found = scaling.compared(
        {
            "one": arm(100.0, 2.0, 1.0),
            "one again": arm(99.0, 2.0, 1.0),
            "two": arm(150.0, 2.0, 1.1),
            "two, as many each": arm(190.0, 3.0),
            "one, four times the batch": {"error": "exit status 1\nout of memory"},
            "two, four times the batch": arm(300.0, 3.0),
            "answers, one": answers(30.0, ("SELECT 1", -1.0), ("SELECT 2", -2.0)),
            "answers, two": answers(20.0, ("SELECT 1", -1.25), ("SELECT 3", -2.0)),
        }
    )
    assert found["speedup"] == {"same batch": 1.5, "as many each": 1.9, "four times the batch": None, "answers": 1.5}
    assert found["losses"] == {"one/two": pytest.approx(0.1), "one/one again": 0.0, "four times the batch": None}
    assert found["answers"] == {
        "same": False,
        "share_other_candidates": 0.5,
        "share_other_first": 0.5,
        "largest_difference": 0.25,
    }
    assert set(scaling.compared({})["speedup"].values()) == {None}


@pytest.mark.parametrize("gpus, sizes", [(0, [1] * 8), (2, [2, 2, 1, 1, 1, 1]), (4, [4, 2, 2])])
def test_as_many_arms_work_side_by_side_as_there_are_gpus_for(gpus, sizes):
    made = scaling.groups(scaling.ARMS, gpus)
    assert [len(group) for group in made] == sizes
    assert [arm for group in made for arm in group] == list(scaling.ARMS)
    assert all(sum(arm.processes for arm in group) <= gpus for group in made if len(group) > 1)


def test_every_process_takes_its_share_of_a_step_at_once_or_in_pieces(smoke):
    settings = smoke.with_overrides({"per_device_train_batch_size": 0, "gradient_accumulation_steps": 32}, "this test")
    for name, most, size, effective in (
        ("one", 0, 32, 32),
        ("two", 0, 16, 32),
        ("two, as many each", 0, 32, 64),
        ("one, four times the batch", 48, 32, 128),
    ):
        one = next(arm for arm in scaling.ARMS if arm.name == name)
        changed = settings.with_overrides(scaling.training_changes(settings, one, 5, most), "this test")
        assert (changed.per_device_train_batch_size, changed.effective_batch) == (size, effective), name
        assert (changed.max_steps, changed.num_processes) == (5, one.processes)


def test_an_arm_over_its_time_is_ended_with_all_that_it_started():
    nested = (
        "import subprocess, sys, time;"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True); time.sleep(60)"
    )
    running = subprocess.Popen([sys.executable, "-c", nested])
    deadline = time.monotonic() + 30
    while not (children := psutil.Process(running.pid).children()) and time.monotonic() < deadline:
        time.sleep(0.05)
    scaling.end(running)
    assert children
    assert running.returncode
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


def options(**given):
    asked = {"steps": 4, "questions": 5, "micro_batch": 0, "limit": 240.0, "only": None}
    return argparse.Namespace(**(asked | given))


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_two_processes_are_measured_against_one(linked_run):
    before = sorted(path.name for path in linked_run.path.iterdir())
    result = scaling.measure(linked_run, options())

    assert list(result["arms"]) == scaling.NAMES
    assert not [found for found in result["arms"].values() if "error" in found]
    assert all(value > 0 for value in result["speedup"].values())
    assert max(result["losses"].values()) < 1e-3
    assert result["losses"]["one/one again"] == 0
    assert result["answers"]["same"]
    assert result["arms"]["answers, two"]["questions"] == 5
    batches = {name: found["effective_batch"] for name, found in result["arms"].items() if "pace" in found}
    assert [batches[name] for name in ("one", "two", "two, as many each", "one, four times the batch")] == [8, 8, 16, 32]
    assert linked_run.read_json(scaling.FILE) == result
    assert sorted(path.name for path in linked_run.path.iterdir()) == sorted([*before, scaling.FILE, scaling.DETAILS])

    late = scaling.measure(linked_run, options(only=["one"], limit=0.5))
    assert late["arms"]["one"]["error"].startswith("not done after 0.5 s")
    assert late["speedup"]["same batch"] is None
    assert late["speedup"]["answers"] == result["speedup"]["answers"], "what was measured before stays"
