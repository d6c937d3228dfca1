"""Several processes that work as one: over gloo on processor cores here, as they would over NCCL on GPUs."""

import functools
import shutil
import signal
import threading
import time

import psutil
import pytest
from conftest import losses

from helpers import data, evaluate, train
from helpers.run import processes
from helpers.run.folder import Run
from helpers.trainer import checkpoints

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.usefixtures("two_cores")


def copy(run, path, **changes):
    """A run of its own with the same data, and its settings."""
    shutil.copytree(run.path, path)
    copied, settings = Run(path), run.config().with_overrides(changes, "this test")
    copied.save_config(settings)
    return copied, settings


def trained(run, settings, launch=None):
    model, tokenizer, rows = train.load(run, settings)
    return train.train(model, tokenizer, rows, settings, run, launch=launch), model, tokenizer


def learned(run, settings, launch=None):
    """All that 04 and 05 make: both outcomes, the adapter's weights, and the SQL of the base and the tuned model."""
    from peft import get_peft_model_state_dict

    outcome, model, tokenizer = trained(run, settings, launch)
    weights = {name: value.clone() for name, value in get_peft_model_state_dict(model).items()}
    train.save(model, tokenizer, settings, run, outcome)
    reranker = train.train_reranker(run, settings)
    questions = data.dev_questions(run, settings)
    model, tokenizer = evaluate.load(run, settings)
    sql = [evaluate.predict(model, tokenizer, questions, settings, run, base=base).sql for base in (True, False)]
    return outcome, reranker, weights, sql


def test_two_processes_learn_and_answer_what_one_does(linked_run, tmp_path, capfd, monkeypatch):
    uneven = linked_run.read_jsonl("data/train.jsonl")[:21]  # the last step of an epoch is not whole
    runs = []
    for number, name in ((1, "one"), (2, "two")):
        run, settings = copy(linked_run, tmp_path / name, num_processes=number)
        run.write_jsonl("data/train.jsonl", uneven)
        runs.append((run, settings))
    one = learned(*runs[0])
    # All three jobs in one start: what follows finds the checkpoints and answers that it would have started processes for.
    started = []
    launch = functools.partial(processes.launch, "train,channel,answers", runs[1][0])
    monkeypatch.setattr(processes, "launch", lambda *arguments: started.append(arguments))
    two = learned(*runs[1], launch)

    assert not started
    for alone, together in zip(one[:2], two[:2], strict=True):
        assert losses(together) == pytest.approx(losses(alone), rel=1e-3)
        assert [entry["tokens"] for entry in together.log] == [entry["tokens"] for entry in alone.log]
        assert (together.processes, together.record()["per_device_train_batch_size"]) == (2, 4)
    for name, weights in one[2].items():
        assert torch.allclose(two[2][name], weights, atol=1e-5), name
    assert two[3] == one[3]
    answers = [runs[1][0].read_json(f"evaluation/{name}.json")["answers"] for name in ("base", "tuned", "channel")]
    assert [len(some) for some in answers] == [runs[1][1].eval_questions] * 3
    assert "training: 100%" in capfd.readouterr().err, "their progress is shown"


@pytest.mark.slow
@pytest.mark.parametrize("order", ["group_by_length", "random"])
def test_a_process_that_is_killed_ends_the_run_which_goes_on_in_one_or_two(linked_run, tmp_path, order):
    longer = {"max_steps": 60, "save_steps": 10, "rerank_weight": 0.0, "candidates": 1, "train_sampling_strategy": order}
    run, settings = copy(linked_run, tmp_path / "killed", num_processes=2, **longer)

    def kill_the_second():
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (run / "checkpoints/checkpoint-20").is_dir():  # the tenth is whole then
            time.sleep(0.01)
        for child in psutil.Process().children(recursive=True):
            if "helpers.worker" in child.cmdline() and child.environ().get("RANK") == "1":
                child.send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill_the_second)
    killer.start()
    with pytest.raises(train.TrainingStopped, match=r"Process 2 of 2 was ended by SIGKILL(.|\n)*checkpoint-\d+ is kept"):
        trained(run, settings)
    killer.join()
    assert not [one for one in psutil.Process().children(recursive=True) if "helpers.worker" in one.cmdline()]
    done = checkpoints.step(checkpoints.newest(run))
    assert 10 <= done < 60

    whole, _, _ = trained(*copy(linked_run, tmp_path / "whole", **longer))
    shutil.copytree(run.path, tmp_path / "alone")
    for path, number in ((tmp_path / "alone", 1), (run.path, 2)):
        resumed, _, _ = trained(Run(path), settings.with_overrides({"num_processes": number}, "this test"))
        assert len(resumed.log) == 60
        assert losses(resumed) == pytest.approx(losses(whole), rel=1e-3), number


@pytest.mark.slow
def test_a_job_without_what_it_reads_says_so_in_words(linked_run, tmp_path):
    run, _ = copy(linked_run, tmp_path / "run")
    with pytest.raises(processes.ProcessesFailed, match=r"Process \d of 2: MissingStep: .* has no adapter/adapter_config.json"):
        processes.launch("answers", run, 2)
