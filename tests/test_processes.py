"""Several processes that work as one: over gloo on processor cores here, as they would over NCCL on GPUs."""

import shutil
import signal
import threading
import time

import psutil
import pytest

from helpers import answers, checkpoints, models, probe, prompts, trainer, training
from helpers.run import machine, presets, processes
from helpers.run.folder import Run

torch = pytest.importorskip("torch")
pytest.importorskip("trl")


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    """Machines with one core can run two processes as well, only later."""
    monkeypatch.setattr(processes.os, "cpu_count", lambda: 2)


@pytest.fixture(scope="module")
def data(linked_run, sample):
    """A run whose data is ready, its settings, and the data set."""
    return linked_run, linked_run.config(), sample


def copy(data, path, **changes):
    """A run of its own with the same data, and its settings."""
    shutil.copytree(data[0].path, path)
    run, settings = Run(path), data[1].with_overrides(changes, "this test")
    run.save_config(settings)
    return run, settings


def train(run, settings):
    model, tokenizer = models.load(settings)
    outcome = training.train(model, tokenizer, prompts.read_training_rows(run, tokenizer), settings, run)
    return outcome, model, tokenizer


def learned(run, settings, sample):
    """All that 04 and 05 make: both outcomes, the adapter's weights, answers before and after training, and the SQL chosen."""
    from peft import get_peft_model_state_dict

    outcome, model, tokenizer = train(run, settings)
    weights = {name: value.clone() for name, value in get_peft_model_state_dict(model).items()}
    with run.new_folder("adapter") as folder:
        model.save_pretrained(folder)
    second = training.train_reranker(run, tokenizer, settings)
    examples, messages = prompts.read_dev(run, settings)
    model, tokenizer = models.load_trained(settings, run / "adapter")
    answers.attach(model, run, settings)
    about = {"questions": [one.question for one in examples], "views": prompts.views_of(examples, sample, settings)}
    sql = [answers.predict(model, tokenizer, messages, settings, run, **about, base=base)[0] for base in (True, False)]
    return outcome, second, weights, sql


def losses(outcome):
    return [entry["loss"] for entry in outcome.log]


def test_two_processes_learn_and_answer_what_one_does(data, tmp_path, capfd):
    uneven = data[0].read_jsonl("data/train.jsonl")[:21]  # the last step of an epoch is not whole
    made = []
    for number, name in ((1, "one"), (2, "two")):
        run, settings = copy(data, tmp_path / name, num_processes=number)
        run.write_jsonl("data/train.jsonl", uneven)
        made.append(learned(run, settings, data[2]))
    one, two = made

    for alone, together in zip(one[:2], two[:2], strict=True):
        assert losses(together) == pytest.approx(losses(alone), rel=1e-3)
        assert [entry["tokens"] for entry in together.log] == [entry["tokens"] for entry in alone.log]
        assert (together.processes, together.record()["per_device_train_batch_size"]) == (2, 4)
    for name, weights in one[2].items():
        assert torch.allclose(two[2][name], weights, atol=1e-5), name
    assert two[3] == one[3]
    kept = [run.read_json(f"evaluation/{name}.json")["answers"] for name in ("tuned", "channel")]
    assert [len(some) for some in kept] == [settings.eval_questions] * 2
    assert "training: 100%" in capfd.readouterr().err, "their progress is shown"


@pytest.mark.parametrize("order", ["group_by_length", pytest.param("random", marks=pytest.mark.slow)])
def test_a_process_that_is_killed_ends_the_run_which_goes_on_in_one_or_two(data, tmp_path, order):
    longer = {"max_steps": 60, "save_steps": 10, "rerank_weight": 0.0, "candidates": 1, "train_sampling_strategy": order}
    run, settings = copy(data, tmp_path / "killed", num_processes=2, **longer)

    def kill_the_second():
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (run / "checkpoints/checkpoint-20").is_dir():  # the tenth is whole then
            time.sleep(0.01)
        for child in psutil.Process().children(recursive=True):
            if "helpers.worker" in child.cmdline() and child.environ().get("RANK") == "1":
                child.send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill_the_second)
    killer.start()
    with pytest.raises(training.TrainingStopped, match=r"Process 2 of 2 was ended by SIGKILL(.|\n)*checkpoint-\d+ is kept"):
        train(run, settings)
    killer.join()
    assert not [one for one in psutil.Process().children(recursive=True) if "helpers.worker" in one.cmdline()]
    done = checkpoints.step(checkpoints.newest(run))
    assert 10 <= done < 60

    whole, _, _ = train(*copy(data, tmp_path / "whole", **longer))
    shutil.copytree(run.path, tmp_path / "alone")
    for path, number in ((tmp_path / "alone", 1), (run.path, 2)):
        resumed, _, _ = train(Run(path), settings.with_overrides({"num_processes": number}, "this test"))
        assert len(resumed.log) == 60
        assert losses(resumed) == pytest.approx(losses(whole), rel=1e-3), number


def test_a_job_without_what_it_reads_says_so_in_words(data, tmp_path):
    run, _ = copy(data, tmp_path / "run")
    with pytest.raises(processes.ProcessesFailed, match=r"Process \d of 2: MissingStep: .* has no adapter/adapter_config.json"):
        processes.launch("answers", run, 2)


def test_memory_that_runs_out_in_a_process_is_known_where_it_was_started(data, tmp_path):
    run, _ = copy(data, tmp_path / "run")
    processes.record_failure(run, torch.cuda.OutOfMemoryError("CUDA out of memory"))
    assert isinstance(processes.explain_failure(run, "", 2), torch.cuda.OutOfMemoryError)
    processes.record_failure(run, ValueError("a later one"))
    assert isinstance(processes.explain_failure(run, "", 2), torch.cuda.OutOfMemoryError), "the first is the cause"


# What is shared out


def test_a_step_is_shared_out_and_never_changed():
    settings = presets.preset("smoke").with_overrides({"train_batch_size": 24, "num_processes": 3}, "this test")
    assert probe.micro_batches(settings) == [4], "as given"
    assert probe.micro_batches(settings.with_overrides({"per_device_train_batch_size": 3}, "this test")) == [2], (
        "the next that divides 8"
    )
    shape = trainer.cut(settings.batch_share(3), 4, "off", 3)
    assert (shape.gradient_accumulation_steps, shape.effective_batch) == (2, 24)
    assert shape.smaller().effective_batch == 24
    assert str(shape) == "4 x 2 in 3 processes, no checkpointing"


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


@pytest.mark.parametrize("visible, own", [(None, "1"), ("2,3", "3")])
def test_a_process_sees_its_own_gpu_alone(monkeypatch, visible, own):
    for name, value in {"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": visible}.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    processes.show_own_gpu()
    assert (processes.os.environ["CUDA_VISIBLE_DEVICES"], processes.local_rank()) == (own, 0)
    assert processes.is_distributed() and not processes.is_main_process()
