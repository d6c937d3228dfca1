"""The batch-size finder: which layout it takes, what it keeps, and that it leaves no trace in the adapter."""

import statistics

import pytest

from helpers import models, train
from helpers.run import machine
from helpers.run.folder import Run
from helpers.trainer import batch_size

torch = pytest.importorskip("torch")
pytest.importorskip("trl")


@pytest.fixture
def automatic(smoke):
    """Batch size 4, its micro-batch left open."""
    return smoke.with_overrides({"per_device_train_batch_size": 0}, "this test")


@pytest.fixture
def timed(monkeypatch):
    """Shapes take the seconds given by micro-batch, 0 for what does not fit; and the layouts that were measured."""

    def taking(seconds):
        measured = []

        def measure(model, tokenizer, dataset, settings, run, layout):
            measured.append(layout)
            took = seconds(layout)
            return (
                batch_size.Trial(layout=layout, seconds=took, tokens=100.0, peak_memory_gib=1.0)
                if took
                else batch_size.Trial(layout=layout)
            )

        monkeypatch.setattr(batch_size, "measure", measure)
        return measured

    return taking


def plan(settings, rows, run):
    return batch_size.plan(*models.load(settings), rows, settings, run)


def sizes(layouts):
    return [layout.per_device_train_batch_size for layout in layouts]


def test_an_open_micro_batch_is_measured_and_trained_with_and_the_batch_size_kept(automatic, rows, run):
    model, tokenizer = models.load(automatic)
    found = batch_size.plan(model, tokenizer, rows, automatic, run)
    outcome = train.train(model, tokenizer, rows, automatic, run)

    assert found.best.layout.batch_size == 4
    assert found.best.seconds == min(one.seconds for one in found.trials)
    assert outcome.per_device_train_batch_size == found.best.layout.per_device_train_batch_size
    assert len(outcome.log) == found.steps == 4


def test_the_finder_leaves_the_losses_of_the_training_as_they_were(automatic, smoke, rows, run, tmp_path):
    """smoke says 4 x 1 itself and probes nothing; weights moved, or random numbers drawn, would show."""
    model, tokenizer = models.load(automatic)
    before = {name: weights.clone() for name, weights in model.named_parameters()}
    batch_size.plan(model, tokenizer, rows, automatic, run)
    assert all(torch.equal(weights, before[name]) for name, weights in model.named_parameters())

    probed = train.train(model, tokenizer, rows, automatic, run)
    fresh, _ = models.load(smoke)
    plain = train.train(fresh, tokenizer, rows, smoke, Run(tmp_path / "plain"))
    assert [entry["loss"] for entry in probed.log] == pytest.approx([entry["loss"] for entry in plain.log], rel=1e-3)


def test_smaller_micro_batches_are_tried_for_as_long_as_they_are_faster(automatic, rows, run, timed):
    measured = timed(lambda layout: {4: 3.0, 2: 1.0, 1: 2.0}[sizes([layout])[0]])
    assert sizes([plan(automatic, rows, run).best.layout]) == [2]
    assert sizes(measured) == [4, 2, 1]


def test_the_largest_is_enough_where_a_smaller_one_is_slower(automatic, rows, run, timed):
    measured = timed(lambda layout: 4.0 / sizes([layout])[0])
    assert sizes([plan(automatic, rows, run).best.layout]) == [4]
    assert sizes(measured) == [4, 2]


def test_what_does_not_fit_is_passed_over_and_said(automatic, rows, run, timed):
    timed(lambda layout: 1.0 if sizes([layout])[0] == 1 else 0)
    found = plan(automatic, rows, run)
    assert sizes([found.best.layout]) == [1]
    assert list(found.table()["s/step"]) == ["out of memory", "out of memory", "1.000"]


def test_a_gpu_that_holds_no_layout_ends_with_advice(automatic, rows, run, timed):
    timed(lambda layout: 0)
    with pytest.raises(batch_size.OutOfMemory, match=r"max_seq_length \(now 256\)"):
        plan(automatic, rows, run)


def test_a_real_step_that_runs_out_of_memory_counts_as_one_that_does_not_fit(automatic, rows, run, monkeypatch):
    model, tokenizer = models.load(automatic)
    forward = type(model).forward

    def starving(self, input_ids=None, **kwargs):
        if input_ids.shape[0] > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return forward(self, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(type(model), "forward", starving)
    trials = batch_size.plan(model, tokenizer, rows, automatic, run).trials
    assert [(sizes([one.layout])[0], one.seconds is None) for one in trials][:2] == [(4, True), (2, False)]


def test_activations_are_recomputed_only_where_storing_them_does_not_fit(automatic, rows, tmp_path, timed):
    settings = automatic.with_overrides({"gradient_checkpointing": "auto"}, "this test")
    timed(lambda layout: 1.0)
    everything_fits = plan(settings, rows, Run(tmp_path / "large"))
    assert {one.layout.gradient_checkpointing for one in everything_fits.trials} == {"off"}

    timed(lambda layout: 0 if layout.gradient_checkpointing == "off" and sizes([layout])[0] > 1 else 8.0 / sizes([layout])[0])
    short = plan(settings, rows, Run(tmp_path / "small"))
    assert (short.best.layout.gradient_checkpointing, sizes([short.best.layout])) == ("standard", [4])


@pytest.mark.parametrize("kind", ["off", "standard"])
def test_automatic_checkpointing_trains_with_the_losses_of_either(automatic, smoke, rows, tmp_path, timed, kind):
    settings = automatic.with_overrides({"gradient_checkpointing": "auto"}, "this test")
    timed(lambda layout: 1.0 if layout.gradient_checkpointing == kind else 0)
    model, tokenizer = models.load(settings)
    found = train.train(model, tokenizer, rows, settings, Run(tmp_path / kind))
    fresh, _ = models.load(smoke)
    plain = train.train(fresh, tokenizer, rows, smoke, Run(tmp_path / "plain"))
    assert [entry["loss"] for entry in found.log] == pytest.approx([entry["loss"] for entry in plain.log], rel=1e-3)


def test_what_was_found_is_kept_and_made_again_for_other_settings_or_data(automatic, rows, run, timed):
    measured = timed(lambda layout: 1.0)
    first = plan(automatic, rows, run)
    count = len(measured)
    assert plan(automatic, rows, run).trials == first.trials
    assert plan(automatic.with_overrides({"max_new_tokens": 5}, "this test"), rows, run).trials == first.trials
    assert len(measured) == count, "taken from the run folder"
    plan(automatic.with_overrides({"optim": "adamw_torch_fused"}, "this test"), rows, run)
    plan(automatic, rows[:-1], run)
    assert len(measured) == 3 * count


def test_a_given_micro_batch_is_the_only_one_tried(smoke, rows, run, timed):
    measured = timed(lambda layout: 1.0)
    plan(smoke, rows, run)
    assert sizes(measured) == [4]


def test_the_first_step_of_a_trial_sees_the_longest_examples(automatic, rows):
    chosen = batch_size.trial_rows(rows, automatic)
    longest = sorted((len(row.input_ids) for row in rows), reverse=True)
    assert [len(row.input_ids) for row in chosen[:4]] == longest[:4]
    assert len(chosen) == 4 * (1 + batch_size.TIMED_STEPS)


def test_steps_of_like_length_are_timed_where_the_training_takes_such(automatic, rows):
    grouped = automatic.with_overrides({"train_sampling_strategy": "group_by_length"}, "this test")
    lengths = [len(row.input_ids) for row in batch_size.trial_rows(rows, grouped)]
    every = sorted((len(row.input_ids) for row in rows), reverse=True)
    longest, *steps = [lengths[at : at + 4] for at in range(0, len(lengths), 4)]
    assert longest == every[:4]
    # neighbours in length, one step of long and one of short examples, together as long as all are on average
    assert all(step in [every[at : at + 4] for at in range(len(every))] for step in steps)
    assert min(steps[0]) >= statistics.median(every) >= max(steps[1])
    mean = statistics.fmean(steps[0] + steps[1])
    assert mean == pytest.approx(statistics.fmean(every), rel=0.15)


def test_fewer_examples_than_a_step_takes_come_again(automatic, rows):
    grouped = automatic.with_overrides({"train_sampling_strategy": "group_by_length"}, "this test")
    assert len(batch_size.trial_rows(rows[:3], grouped)) == 4 * (1 + batch_size.TIMED_STEPS)


def test_the_plan_says_what_the_training_will_cost(automatic, rows, run, timed):
    timed(lambda layout: 30.0)
    text = str(plan(automatic, rows, run))
    assert text.startswith("4 steps x 4 examples = 16 of 24 (0.67 epochs), about 400 tokens; about 2.0 min")


def test_a_limit_on_gpu_memory_is_handed_to_torch_as_a_share(monkeypatch):
    from helpers.run import memory

    monkeypatch.setattr(machine, "gpu", lambda: machine.Gpu(name="H200", memory_gib=136.0, capability=(9, 0)))
    asked = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", asked.append)
    for gib in ("3.4", "0", "", "500"):
        monkeypatch.setenv("GPU_MEMORY_GIB", gib)
        memory.limit_gpu_memory()
    assert asked == [pytest.approx(3.4 / 136), 1.0]
