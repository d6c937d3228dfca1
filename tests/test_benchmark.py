"""The benchmark: arms in processes of their own, kept as they end, and claims judged by what they measured."""

import dataclasses
import json

import matplotlib as mpl
import pytest

from helpers import benchmark, claims, models, prompts
from helpers.benchmark import Arm
from helpers.run.files import write_text
from helpers.run.folder import Run

mpl.use("Agg")


@pytest.fixture(scope="module")
def measured(smoke, sample, tmp_path_factory):
    """Two arms that train, one that answers and one that cannot, on the tiny model; with what it takes to go on."""
    run, tokenizer = Run(tmp_path_factory.mktemp("benchmark")), models.load(smoke)[1]
    run.save_config(smoke)
    prompts.write_data(run, sample, tokenizer, smoke)
    rows = prompts.read_training_rows(run, tokenizer)
    asked = [(rows[0].input_ids[:20], 3), (rows[1].input_ids[:30], 5)]
    arms = [
        Arm(name="whole", steps=4),
        Arm(name="halves", overrides={"per_device_train_batch_size": 2}, steps=4),
        Arm(name="answers", answers=2),
        Arm(name="impossible", overrides={"load_in_4bit": True}),
    ]
    return benchmark.measure(arms, smoke, rows, asked, run, progress=""), run, arms, rows, asked


def test_an_arm_that_trains_says_time_memory_and_losses(measured):
    results = measured[0]
    assert results["whole"]["losses"] == pytest.approx(results["halves"]["losses"], rel=1e-3)
    for name in ("whole", "halves"):
        assert len(results[name]["losses"]) == 4
        assert results[name]["seconds_per_step"] > 0 and results[name]["tokens_per_second"] > 0
        assert results[name]["optimizer_mib"] == pytest.approx(results["whole"]["optimizer_mib"])
        assert results[name]["peak_memory_gib"] >= results[name]["weights_gib"] > 0


def test_an_arm_that_answers_counts_the_tokens_of_gold(measured):
    result = measured[0]["answers"]
    assert (result["questions"], result["tokens_in"], result["tokens_out"]) == (2, 50, 8)
    assert result["tokens_per_second"] == pytest.approx(8 / result["seconds"], rel=0.02)


def test_an_arm_that_fails_says_why_and_stops_no_other(measured):
    assert "needs a CUDA GPU for load_in_4bit=True" in measured[0]["impossible"]["error"]


def test_a_benchmark_goes_on_where_it_stopped(measured, smoke, monkeypatch):
    results, run, arms, rows, asked = measured

    def refuse(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(benchmark, "Process", refuse)
    assert benchmark.measure(arms[:3], smoke, rows, asked, run, progress="") == results
    for settings, other_rows in ((smoke.with_overrides({"r": 4}, "this test"), rows), (smoke, rows[1:])):
        with pytest.raises(AssertionError, match="measured again"):
            benchmark.measure(arms[:3], settings, other_rows, asked, run, progress="")


@pytest.mark.parametrize(
    "gib, cores, sizes",
    [(None, 64, [1] * 5), (14.7, 64, [1] * 5), (79, 64, [3, 2]), (79, 4, [2, 1, 2]), (24, 64, [2, 1, 1, 1]), (79, 1, [1] * 5)],
)
def test_arms_get_ready_together_as_there_is_room(gib, cores, sizes, monkeypatch):
    device = gib and dataclasses.make_dataclass("Device", ["memory_gib"])(gib)
    monkeypatch.setattr(benchmark.machine, "gpu", lambda: device)
    monkeypatch.setattr(benchmark.os, "cpu_count", lambda: cores)
    arms = [Arm(name=str(gib), gib=gib) for gib in (10, 10, 40, 60, 10)]
    found = benchmark.rounds(arms)
    assert [arm for together in found for arm in together] == arms
    assert [len(together) for together in found] == sizes
    assert len(benchmark.rounds(arms, times=8.0)) == 5, "a model of 8B weights leaves room for one"


def test_every_claim_compares_arms_that_are_measured():
    names = {arm.name: arm for arm in benchmark.ARMS}
    assert len(names) == len(benchmark.ARMS)
    for claim in claims.CLAIMS:
        assert {claim.arm, claim.against} <= set(names)
    for arm in benchmark.ARMS:  # every override is a setting with a possible value
        benchmark.RunConfig().with_overrides(arm.overrides, "this test")


def claim(quantity, claimed):
    return claims.Claim(text="a claim", quantity=quantity, arm="mine", against="other", claimed=claimed)


@pytest.mark.parametrize(
    "quantity, claimed, mine, other, verdict, shown",
    [
        ("peak_memory_gib", 0.3, 7.0, 10.0, "holds", "-30 %"),
        ("peak_memory_gib", 0.3, 7.3, 10.0, "holds", "-27 %"),  # within a tenth of the claim
        ("peak_memory_gib", 0.3, 9.0, 10.0, "less than claimed", "-10 %"),
        ("peak_memory_gib", 0.3, 12.0, 10.0, "not here", "+20 %"),
        ("tokens_per_second", 2.0, 30.0, 10.0, "holds", "3.0 x"),
        ("tokens_per_second", 2.0, 15.0, 10.0, "less than claimed", "1.5 x"),
        ("tokens_per_second", 2.0, 9.0, 10.0, "not here", "0.9 x"),
        ("tokens_per_second", None, 9.0, 10.0, "-", "0.9 x"),
        ("tokens_per_second", 2.0, None, 10.0, "not measured", "-"),
    ],
)
def test_a_claim_is_judged_by_what_was_measured(quantity, claimed, mine, other, verdict, shown):
    one = claim(quantity, claimed)
    value = one.measured({"mine": {quantity: mine} if mine else {"error": "out of memory"}, "other": {quantity: other}})
    assert (one.verdict(value), one.shown(value)) == (verdict, shown)


def test_the_kept_benchmark_names_its_gpu_and_shows_every_arm():
    kept = claims.stored()
    assert kept["gpu"].startswith("NVIDIA")
    table = claims.arms_table(kept["arms"])
    assert list(table.index) == list(kept["arms"])
    assert set(kept["arms"]) <= {arm.name for arm in benchmark.ARMS}
    assert len(claims.claims_table(kept["arms"])) == len(claims.CLAIMS)


def test_the_plots_show_what_was_measured():
    arms = claims.stored()["arms"]
    memory, speed = claims.plot_claims(arms)
    bars = {label.get_text(): bar.get_width() for label, bar in zip(speed.get_yticklabels(), speed.patches, strict=True)}
    assert bars["8 x 1, not 1 x 8: speed"] == pytest.approx(
        arms["8 x 1"]["tokens_per_second"] / arms["1 x 8"]["tokens_per_second"]
    )
    assert len(memory.patches) >= 2
    lines = claims.plot_losses(arms).get_lines()
    assert [list(line.get_ydata()) for line in lines] == [arms[name]["losses"] for name in ("1 x 8", "8 x 1", "8 x 1 again")]


def test_a_process_that_dies_leaves_its_last_words(smoke, tmp_path):
    shared = write_text(tmp_path / "data.json", json.dumps({"rows": [], "prompts": []}))
    with benchmark.Process(Arm(name="empty"), smoke, shared, tmp_path) as process:
        process.process.kill()
        assert process.result()["error"]
