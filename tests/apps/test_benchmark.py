"""The benchmark: variants in processes of their own, kept as they end, and claims judged by what they measured."""

import dataclasses
import io
import json

import matplotlib as mpl
import pytest
from conftest import write_run

from helpers import data, models
from helpers.apps import benchmark, claims
from helpers.apps.benchmark import Variant
from helpers.run.files import write_text

mpl.use("Agg")


class Inside:
    """Stands in for `subprocess.Popen`: a variant in this process, ready and measured at once, as fast as its own would be slow."""

    def __init__(self, command, *, stdout, **_):
        self.returncode = 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdin", io.StringIO("go\n"))
            try:
                benchmark.main(command[-1])
            except ValueError as error:
                stdout.write(f"ValueError: {error}")
                stdout.flush()
                self.returncode = 1

    def poll(self):
        return self.returncode

    def communicate(self, *_, **__):
        return None, None

    kill = communicate


@pytest.fixture(scope="module")
def measured(smoke, sample, tmp_path_factory):
    """Two variants that train, one that answers and one that cannot, on the tiny model; with what it takes to go on."""
    run = write_run(tmp_path_factory.mktemp("benchmark") / "run", smoke, sample)
    rows = data.read_training_rows(run, models.load(smoke)[1])
    asked = [(rows[0].input_ids[:20], 3), (rows[1].input_ids[:30], 5)]
    variants = [
        Variant(name="whole", steps=4),
        Variant(name="halves", overrides={"per_device_train_batch_size": 2}, steps=4),
        Variant(name="answers", answers=2),
        Variant(name="impossible", overrides={"load_in_4bit": True}),
    ]
    benchmark.measure(variants[3:], smoke, rows, asked, run, progress="")  # one in a process of its own, as all are for users
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark.subprocess, "Popen", Inside)
        results = benchmark.measure(variants, smoke, rows, asked, run, progress="")
    return results, run, variants, rows, asked


def test_a_variant_that_trains_says_time_memory_and_losses(measured):
    results = measured[0]
    assert results["whole"]["losses"] == pytest.approx(results["halves"]["losses"], rel=1e-3)
    for name in ("whole", "halves"):
        assert len(results[name]["losses"]) == 4
        assert results[name]["seconds_per_step"] > 0 and results[name]["tokens_per_second"] > 0
        assert results[name]["optimizer_mib"] == pytest.approx(results["whole"]["optimizer_mib"])
        assert results[name]["peak_memory_gib"] >= results[name]["weights_gib"] > 0


def test_a_variant_that_answers_counts_the_tokens_of_gold(measured):
    result = measured[0]["answers"]
    assert (result["questions"], result["tokens_in"], result["tokens_out"]) == (2, 50, 8)
    assert result["tokens_per_second"] == pytest.approx(8 / result["seconds"], rel=0.02)


def test_a_variant_that_fails_says_why_and_stops_no_other(measured):
    assert "needs a CUDA GPU for load_in_4bit=True" in measured[0]["impossible"]["error"]


def test_a_benchmark_goes_on_where_it_stopped(measured, smoke, monkeypatch):
    results, run, variants, rows, asked = measured

    def refuse(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(benchmark, "Process", refuse)
    assert benchmark.measure(variants[:3], smoke, rows, asked, run, progress="") == results
    for settings, other_rows in ((smoke.with_overrides({"r": 4}, "this test"), rows), (smoke, rows[1:])):
        with pytest.raises(AssertionError, match="measured again"):
            benchmark.measure(variants[:3], settings, other_rows, asked, run, progress="")


@pytest.mark.parametrize(
    "gib, cores, sizes",
    [(None, 64, [1] * 5), (14.7, 64, [1] * 5), (79, 64, [3, 2]), (79, 4, [2, 1, 2]), (24, 64, [2, 1, 1, 1]), (79, 1, [1] * 5)],
)
def test_variants_get_ready_together_as_there_is_room(gib, cores, sizes, monkeypatch):
    device = gib and dataclasses.make_dataclass("Device", ["memory_gib"])(gib)
    monkeypatch.setattr(benchmark.machine, "gpu", lambda: device)
    monkeypatch.setattr(benchmark.os, "cpu_count", lambda: cores)
    variants = [Variant(name=str(gib), gib=gib) for gib in (10, 10, 40, 60, 10)]
    found = benchmark.rounds(variants)
    assert [variant for together in found for variant in together] == variants
    assert [len(together) for together in found] == sizes
    assert len(benchmark.rounds(variants, memory_scale=8.0)) == 5, "a model of 8B weights leaves room for one"


def test_every_claim_compares_variants_that_are_measured():
    names = {variant.name: variant for variant in benchmark.VARIANTS}
    assert len(names) == len(benchmark.VARIANTS)
    for claim in claims.CLAIMS:
        assert {claim.variant, claim.against} <= set(names)
    for variant in benchmark.VARIANTS:  # every override is a setting with a possible value
        benchmark.RunConfig().with_overrides(variant.overrides, "this test")


def claim(quantity, claimed):
    return claims.Claim(text="a claim", quantity=quantity, variant="mine", against="other", claimed=claimed)


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


def test_the_kept_benchmark_names_its_gpu_and_shows_every_variant():
    kept = claims.stored()
    assert kept["gpu"].startswith("NVIDIA")
    table = claims.variants_table(kept["arms"])
    assert list(table.index) == list(kept["arms"])
    assert set(kept["arms"]) <= {variant.name for variant in benchmark.VARIANTS}
    assert len(claims.claims_table(kept["arms"])) == len(claims.CLAIMS)


def test_the_plots_show_what_was_measured():
    variants = claims.stored()["arms"]
    memory, speed = claims.plot_claims(variants)
    bars = {label.get_text(): bar.get_width() for label, bar in zip(speed.get_yticklabels(), speed.patches, strict=True)}
    assert bars["8 x 1, not 1 x 8: speed"] == pytest.approx(
        variants["8 x 1"]["tokens_per_second"] / variants["1 x 8"]["tokens_per_second"]
    )
    assert len(memory.patches) >= 2
    lines = claims.plot_losses(variants).get_lines()
    assert [list(line.get_ydata()) for line in lines] == [variants[name]["losses"] for name in ("1 x 8", "8 x 1", "8 x 1 again")]


def test_a_process_that_dies_leaves_its_last_words(smoke, tmp_path):
    shared = write_text(tmp_path / "data.json", json.dumps({"rows": [], "prompts": []}))
    with benchmark.Process(Variant(name="empty"), smoke, shared, tmp_path) as process:
        process.process.kill()
        assert process.result()["error"]
