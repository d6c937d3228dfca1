"""Training on the tiny model: what the loss counts, and that a run which is killed, cut off or starved comes out the same."""

import functools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import losses, train_fresh

from helpers import models
from helpers.run import machine
from helpers.run.folder import OtherConfiguration, Run
from helpers.train import TrainingStopped, train
from helpers.trainer import batch_size, checkpoints, trainer
from helpers.trainer.outcome import Outcome

torch = pytest.importorskip("torch")
pytest.importorskip("trl")


def same_losses(outcome, other):
    return losses(outcome) == pytest.approx(losses(other), rel=1e-3)


def fail_in_forward(monkeypatch, model, error, when):
    """Raise `error` in a forward pass for which `when(number of the pass, examples in it)` holds."""
    forward, passes = model.forward, iter(range(10_000))

    @functools.wraps(forward)  # the trainer looks at the signature
    def failing(*args, **kwargs):
        if when(next(passes), kwargs["input_ids"].shape[0]):
            raise error
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", failing)


# The loss


@pytest.mark.parametrize("packing", [False, True])
def test_the_loss_is_the_mean_over_the_tokens_of_the_completions_alone(smoke, rows, run, packing):
    """Each row's share is computed by itself here: packed rows that saw each other would come out otherwise."""
    one_step = smoke.with_overrides({"max_steps": 1, "packing": packing}, "this test")
    chosen = rows[: smoke.per_device_train_batch_size]  # all of them in the first step, whatever the order
    model, _ = models.load(one_step)
    surprise, counted = 0.0, 0
    for row in chosen:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row.input_ids], device=model.device)).logits[0].log_softmax(-1)
        for at, kept in enumerate(row.completion_mask):
            if kept:
                surprise -= logits[at - 1, row.input_ids[at]].item()
                counted += 1

    outcome = train_fresh(one_step, chosen, run)

    assert losses(outcome) == [pytest.approx(surprise / counted, rel=1e-5 if packing else 1e-4)]
    assert outcome.log[0]["tokens"] == sum(len(row.input_ids) for row in chosen), "padding is left out"


def test_packing_puts_every_example_whole_into_one_row_and_the_steps_count_rows(smoke, rows):
    packed = smoke.with_overrides({"packing": True, "max_steps": 0, "num_train_epochs": 2.0}, "this test")
    dataset = trainer.make_dataset(rows, packed)
    assert len(dataset) < len(rows)
    assert max(map(len, dataset["input_ids"])) <= packed.max_seq_length

    def examples(row):
        ends = [sum(row["seq_lengths"][: place + 1]) for place in range(len(row["seq_lengths"]))]
        return [
            (tuple(row["input_ids"][begin:end]), tuple(row["completion_mask"][begin:end]))
            for begin, end in zip([0, *ends], ends, strict=False)
        ]

    found = [example for row in dataset for example in examples(row)]
    assert sorted(found) == sorted((tuple(row.input_ids), tuple(row.completion_mask)) for row in rows)
    assert packed.steps(len(dataset)) == 2 * -(-len(dataset) // packed.train_batch_size)


def test_grouped_by_length_less_is_padded_and_every_example_seen(smoke, rows, run, tmp_path, monkeypatch):
    """Width of each batch: what is computed; tokens in the log: what is learned from."""
    shapes = {}
    for order in ("random", "group_by_length"):
        changes = {
            "train_batch_size": 2,
            "per_device_train_batch_size": 2,
            "max_steps": 12,
            "train_sampling_strategy": order,
        }  # one pass over 24
        settings = smoke.with_overrides(changes, "this test")
        model, _ = models.load(settings)
        forward, seen = model.forward, []

        @functools.wraps(forward)
        def noting(*args, forward=forward, seen=seen, **kwargs):
            seen.append(kwargs["input_ids"].numel())
            return forward(*args, **kwargs)

        monkeypatch.setattr(model, "forward", noting)
        outcome = train_fresh(settings, rows, Run(tmp_path / order), model=model)
        shapes[order] = sum(seen), sum(entry["tokens"] for entry in outcome.log)
    assert shapes["group_by_length"][0] < shapes["random"][0]
    assert shapes["group_by_length"][1] == shapes["random"][1] == sum(len(row.input_ids) for row in rows)


def test_the_micro_batch_changes_no_loss(smoke, rows, run, unbroken):
    halved = smoke.with_overrides({"per_device_train_batch_size": 2}, "this test")
    assert same_losses(train_fresh(halved, rows, run), unbroken[1])


def test_training_moves_the_adapter_alone(smoke, rows, run):
    model, tokenizer = models.load(smoke)
    before = {name: weights.detach().clone() for name, weights in model.named_parameters()}
    train(model, tokenizer, rows, smoke, run)
    moved = {name for name, weights in model.named_parameters() if not torch.equal(weights, before[name])}
    assert moved
    assert all("lora_" in name for name in moved)


def test_the_log_has_an_entry_for_each_step_and_a_warm_up(unbroken, smoke):
    run, outcome = unbroken
    assert [entry["step"] for entry in outcome.log] == [1, 2, 3, 4]
    assert [entry["learning_rate"] for entry in outcome.log] == pytest.approx([0, 2e-4, 2e-4 * 2 / 3, 2e-4 / 3])
    assert run.read_jsonl("training.jsonl") == outcome.log


def test_a_row_that_would_be_cut_is_refused(smoke, rows, run):
    longest = max(len(row.input_ids) for row in rows)
    with pytest.raises(ValueError, match=f"{longest} tokens, max_seq_length is {longest - 1}"):
        train_fresh(smoke.with_overrides({"max_seq_length": longest - 1}, "this test"), rows, run)
    assert not (run / "checkpoints").exists()


def test_speed_leaves_the_first_two_steps_out_and_the_final_loss_is_the_mean_of_ten():
    log = [
        {"step": step, "loss": float(step), "seconds": 9.0 if step < 3 else 2.0, "tokens": 100, "peak_memory_gib": step / 10}
        for step in range(1, 21)
    ]
    record = Outcome(log=log, per_device_train_batch_size=2, gradient_accumulation_steps=4).record()
    assert record["steps"] == 20
    assert record["seconds"] == 2 * 9 + 18 * 2
    assert record["seconds_per_step"] == 2
    assert record["tokens_per_second"] == 50
    assert record["first_loss"] == 1
    assert record["final_loss"] == 15.5
    assert record["peak_memory_gib"] == 2


# Broken off and taken up again


KILLED = """
import sys
from pathlib import Path
from helpers import train
from helpers.run.folder import Run

run = Run(Path(sys.argv[1]))
settings = run.config()
model, tokenizer, rows = train.load(run, settings)
train.train(model, tokenizer, rows, settings, run)
"""


@pytest.mark.parametrize("order", ["random", "group_by_length"])
def test_a_training_resumed_from_a_checkpoint_has_the_losses_of_an_unbroken_one(smoke, rows, run, tmp_path, order):
    longer = smoke.with_overrides({"max_steps": 6, "save_steps": 4, "train_sampling_strategy": order}, "this test")
    whole = train_fresh(longer, rows, run)
    broken = Run(tmp_path / "broken")
    shutil.copytree(run.path, broken.path, ignore=shutil.ignore_patterns("checkpoint-6"))
    resumed = train_fresh(longer, rows, broken)
    assert resumed.new_steps == 2
    assert same_losses(resumed, whole)
    assert [entry["tokens"] for entry in resumed.log] == [entry["tokens"] for entry in whole.log]


@pytest.mark.slow
@pytest.mark.parametrize("order", ["random", "group_by_length"])
def test_a_training_that_is_killed_and_resumed_has_the_losses_of_an_unbroken_one(smoke, ready_run, rows, run, tmp_path, order):
    changes = {"max_steps": 24, "save_steps": 4, "train_sampling_strategy": order}
    longer = smoke.with_overrides(changes, "this test")
    shutil.copytree(ready_run.path, run.path)
    run.save_config(longer)
    command, variables = [sys.executable, "-c", KILLED, str(run.path)], os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=machine.ROOT, env=variables, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not (run / "checkpoints/checkpoint-8").is_dir() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.kill()
        _, errors = process.communicate()
    assert process.returncode, f"it was over before it could be killed: {errors.decode()[-500:]}"
    assert (run / "checkpoints/checkpoint-4").is_dir(), errors.decode()[-500:]

    resumed = train_fresh(longer, rows, run)

    whole = train_fresh(longer, rows, Run(tmp_path / "whole"))
    assert [entry["step"] for entry in resumed.log] == list(range(1, 25))
    assert same_losses(resumed, whole)
    assert [entry["tokens"] for entry in resumed.log] == [entry["tokens"] for entry in whole.log]


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


HARMS = [
    *[(truncate, part) for part in (*checkpoints.PARTS, "rng_state.pth")],
    *[(Path.unlink, part) for part in checkpoints.PARTS],
    (flip_a_bit, "optimizer.pt"),
]


@pytest.mark.parametrize("harm, part", HARMS, ids=lambda value: getattr(value, "__name__", value))
def test_a_damaged_checkpoint_is_named_and_the_one_before_serves(copied, capsys, harm, part):
    harm(copied / "checkpoints/checkpoint-4" / part)
    assert checkpoints.newest(copied) == copied / "checkpoints/checkpoint-2"
    assert "checkpoint-4 is damaged" in capsys.readouterr().out


def test_no_whole_checkpoint_is_none(copied):
    for checkpoint in (copied / "checkpoints").glob("checkpoint-*"):
        truncate(checkpoint / "adapter_model.safetensors")
    assert checkpoints.newest(copied) is None


def test_a_training_goes_on_from_the_checkpoint_before_a_damaged_one(copied, smoke, rows, unbroken):
    truncate(copied / "checkpoints/checkpoint-4/adapter_model.safetensors")
    outcome = train_fresh(smoke, rows, copied)
    assert [entry["step"] for entry in outcome.log] == [1, 2, 3, 4]
    assert outcome.log[:2] == unbroken[1].log[:2], "the first two were not trained again"
    assert same_losses(outcome, unbroken[1])


def test_a_finished_training_takes_no_further_step(copied, smoke, rows, unbroken, monkeypatch):
    model, tokenizer = models.load(smoke)
    fail_in_forward(monkeypatch, model, AssertionError("a step was taken"), lambda number, size: True)
    assert train(model, tokenizer, rows, smoke, copied) == unbroken[1]


def test_a_finished_training_that_is_run_again_ends_with_its_weights(copied, smoke, rows):
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file

    model, _ = models.load(smoke)
    train_fresh(smoke, rows, copied, model=model)
    found = get_peft_model_state_dict(model)
    saved = load_file(copied / "checkpoints/checkpoint-4/adapter_model.safetensors")
    assert all(torch.equal(found[name].cpu(), weights) for name, weights in saved.items())


@pytest.mark.parametrize("change", [{"learning_rate": 1e-3}, {"max_steps": 6}, {"r": 8}, {"seed": 1}])
def test_checkpoints_of_other_settings_are_refused_by_name(copied, smoke, rows, change):
    other = smoke.with_overrides(change, "this test")
    with pytest.raises(OtherConfiguration, match=next(iter(change))) as caught:
        train_fresh(other, rows, copied)
    assert "resume=False" in str(caught.value)


def test_checkpoints_of_other_data_are_refused(copied, smoke, rows):
    with pytest.raises(OtherConfiguration, match="tokens"):
        train_fresh(smoke, rows[:-1], copied)


def test_settings_of_the_evaluation_alone_do_not_stand_in_the_way(copied, smoke, rows, unbroken):
    outcome = train_fresh(smoke.with_overrides({"max_new_tokens": 99}, "this test"), rows, copied)
    assert outcome.log == unbroken[1].log


def test_without_resume_the_training_begins_afresh_with_the_new_settings(copied, smoke, rows):
    outcome = train_fresh(smoke.with_overrides({"max_steps": 3}, "this test"), rows, copied, resume=False)
    assert [entry["step"] for entry in outcome.log] == [1, 2, 3]
    assert not (copied / "checkpoints/checkpoint-4").exists()


def test_the_stop_button_keeps_the_last_checkpoint_and_says_how_to_go_on(smoke, rows, run, unbroken, monkeypatch):
    model, _ = models.load(smoke)
    fail_in_forward(monkeypatch, model, KeyboardInterrupt(), lambda number, size: number == 3)
    with pytest.raises(TrainingStopped, match="at step 3; checkpoint-2 is kept: run the same again to resume from it"):
        train_fresh(smoke, rows, run, model=model)
    assert same_losses(train_fresh(smoke, rows, run), unbroken[1])


def test_the_stop_button_before_the_first_checkpoint_says_so(smoke, rows, run, monkeypatch):
    model, _ = models.load(smoke)
    fail_in_forward(monkeypatch, model, KeyboardInterrupt(), lambda number, size: True)
    with pytest.raises(TrainingStopped, match="no checkpoint yet"):
        train_fresh(smoke, rows, run, model=model)


# Short of memory

OUT_OF_MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory")


def test_short_memory_halves_the_micro_batch_and_keeps_the_effective_batch(smoke, rows, run, tmp_path, monkeypatch, capsys):
    model, _ = models.load(smoke)
    fail_in_forward(monkeypatch, model, OUT_OF_MEMORY, lambda number, size: size > 2)

    starved = train_fresh(smoke, rows, run, model=model)

    assert (starved.per_device_train_batch_size, starved.gradient_accumulation_steps) == (2, 2)
    assert "going on with 2; the batch size stays 4" in capsys.readouterr().out
    small = smoke.with_overrides({"per_device_train_batch_size": 2}, "this test")
    assert losses(starved) == losses(train_fresh(small, rows, Run(tmp_path / "small")))
    assert train_fresh(smoke, rows, run) == starved, "run again, it still says with which micro-batch it was trained"


def test_memory_that_runs_short_after_a_checkpoint_costs_no_step_before_it(smoke, rows, run, unbroken, monkeypatch):
    model, _ = models.load(smoke)
    fail_in_forward(monkeypatch, model, OUT_OF_MEMORY, lambda number, size: size > 2 and number >= 2)
    outcome = train_fresh(smoke, rows, run, model=model)
    assert [entry["step"] for entry in outcome.log] == [1, 2, 3, 4]
    assert same_losses(outcome, unbroken[1])


def test_memory_that_runs_short_before_a_checkpoint_begins_again_untrained(smoke, rows, run, tmp_path, monkeypatch):
    fast = smoke.with_overrides({"learning_rate": 0.05, "save_steps": 100}, "this test")
    model, _ = models.load(fast)
    fail_in_forward(monkeypatch, model, OUT_OF_MEMORY, lambda number, size: size > 2 and number >= 3)
    assert same_losses(train_fresh(fast, rows, run, model=model), train_fresh(fast, rows, Run(tmp_path / "unstarved")))


def test_an_odd_micro_batch_shrinks_to_one_that_divides_the_effective_batch(smoke, rows, run, monkeypatch):
    odd = smoke.with_overrides({"train_batch_size": 3, "per_device_train_batch_size": 3, "max_steps": 1}, "this test")
    model, _ = models.load(odd)
    fail_in_forward(monkeypatch, model, OUT_OF_MEMORY, lambda number, size: size > 2)
    outcome = train_fresh(odd, rows, run, model=model)
    assert (outcome.per_device_train_batch_size, outcome.gradient_accumulation_steps) == (1, 3)


def test_a_gpu_too_small_for_one_example_ends_with_advice(smoke, rows, run, monkeypatch):
    pair = smoke.with_overrides({"per_device_train_batch_size": 2}, "this test")
    model, _ = models.load(pair)
    fail_in_forward(monkeypatch, model, OUT_OF_MEMORY, lambda number, size: True)
    with pytest.raises(batch_size.OutOfMemory) as caught:
        train_fresh(pair, rows, run, model=model)
    assert "max_seq_length (now 256)" in str(caught.value)
    assert "gradient_checkpointing='unsloth' (now 'off')" in str(caught.value)
    assert "load_in_4bit=True (now False)" in str(caught.value)
