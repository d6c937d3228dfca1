"""Work shared out among processes, before any is started."""

import pytest

from helpers import models
from helpers.run import machine, presets, processes
from helpers.run.folder import MissingStep, Run
from helpers.trainer import batch_size, trainer

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.usefixtures("two_cores")


def test_memory_that_runs_out_in_a_process_is_known_where_it_was_started(tmp_path):
    run = Run(tmp_path)
    processes.record_failure(run, torch.cuda.OutOfMemoryError("CUDA out of memory"))
    assert isinstance(processes.explain_failure(run, "", 2), torch.cuda.OutOfMemoryError)
    processes.record_failure(run, ValueError("a later one"))
    assert isinstance(processes.explain_failure(run, "", 2), torch.cuda.OutOfMemoryError), "the first is the cause"


# The end of what accelerate's launcher prints where one process of two was killed.
LAUNCHED = """\
============================================================
helpers.worker FAILED
------------------------------------------------------------
Failures:
[1]:
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 4711)
  traceback : Signal 15 (SIGTERM) received by PID 4711
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 4712)
  error_file: <N/A>
  traceback : Signal 9 (SIGKILL) received by PID 4712
============================================================"""


def test_a_failed_job_is_explained_by_what_it_left(tmp_path):
    run = Run(tmp_path)
    assert "could not be started:\nNo module" in str(processes.explain_failure(run, "No module named accelerate", 2))
    processes.record_failure(run, MissingStep("no adapter"))
    assert str(processes.explain_failure(run, "", 2)) == "Process 1 of 2: MissingStep: no adapter"
    assert "Process 2 of 2 was ended by SIGKILL" in str(processes.explain_failure(run, LAUNCHED, 2)), "a kill leaves no error"


def test_a_step_is_shared_out_and_never_changed():
    settings = presets.preset("smoke").with_overrides({"train_batch_size": 24, "num_processes": 3}, "this test")
    assert batch_size.micro_batches(settings) == [4], "as given"
    assert batch_size.micro_batches(settings.with_overrides({"per_device_train_batch_size": 3}, "this test")) == [2], (
        "the next that divides 8"
    )
    layout = trainer.split_batch(settings.batch_share(3), 4, "off", 3)
    assert (layout.gradient_accumulation_steps, layout.batch_size) == (2, 24)
    assert layout.smaller().batch_size == 24
    assert str(layout) == "4 x 2 in 3 processes, no checkpointing"


def test_a_step_that_cannot_be_shared_out_is_refused():
    with pytest.raises(ValueError, match="train_batch_size=4 cannot be split evenly among 3 processes"):
        presets.preset("smoke").with_overrides({"num_processes": 3}, "this test")


@pytest.mark.parametrize(("gpu", "cores", "each"), [(True, 64, 1), (False, 64, 32), (False, 2, 1), (False, 1, 1)])
def test_the_cores_are_shared_out_unless_a_gpu_does_the_work(monkeypatch, gpu, cores, each):
    monkeypatch.setattr(processes.machine, "gpu", lambda: gpu or None)
    monkeypatch.setattr(processes.os, "cpu_count", lambda: cores)
    assert processes.threads_per_process(2) == each


def test_more_processes_than_the_machine_has_room_for_are_refused(monkeypatch, plain_machine):
    eight = presets.preset("smoke").with_overrides({"train_batch_size": 8, "num_processes": 8}, "this test")
    with pytest.raises(ValueError, match="num_processes=8, but this machine has 2 processor cores: lower it"):
        models.check_machine(eight)
    plain_machine(machine.Gpu(name="NVIDIA H200", memory_gib=139.0, capability=(9, 0)))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(ValueError, match="num_processes=8, but this machine has 4 GPUs: lower it"):
        models.check_machine(eight)


def test_alone_all_the_work_falls_to_one():
    assert (processes.world_size(), processes.is_distributed(), processes.is_main_process(), processes.local_rank()) == (
        1,
        False,
        True,
        0,
    )
    assert processes.shard_and_gather(3, lambda numbers: [number * number for number in numbers]) == [0, 1, 4]
    with processes.main_process_first():
        pass


@pytest.mark.parametrize("visible, own", [(None, "1"), ("2,3", "3"), ("", ""), ("-1", "-1")])
def test_a_process_sees_its_own_gpu_alone(monkeypatch, visible, own):
    for name, value in {"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": visible}.items():
        monkeypatch.setenv(name, value or "")  # so that it is put back, also where it is taken away here
        if value is None:
            monkeypatch.delenv(name)
    processes.show_own_gpu()
    assert (processes.os.environ["CUDA_VISIBLE_DEVICES"], processes.local_rank()) == (own, 0)
    assert processes.is_distributed() and not processes.is_main_process()


def test_more_processes_than_visible_gpus_are_refused(monkeypatch):
    for name, value in {"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": "3"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="CUDA_VISIBLE_DEVICES=3 has 1 GPU for 2 processes"):
        processes.show_own_gpu()
