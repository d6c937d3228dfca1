"""The configuration: the published recipe to the letter, and what papermill hands over made right or refused."""

import pytest

from helpers.run import config, presets
from helpers.run.config import RunConfig, checked

NAMES = [field.name for field in config.settings_fields()]


# Steps


@pytest.mark.parametrize(
    ("overrides", "examples", "steps"),
    [
        ({}, 7_000, 100),  # the recipe's own number, however many examples there are
        ({"max_steps": 0}, 7_000, 875),  # once through Spider
        ({"max_steps": 0, "num_train_epochs": 2}, 7_000, 1_750),
        ({"max_steps": 0}, 9, 2),  # the last batch is not full
        ({"max_steps": 0, "num_train_epochs": 0.5}, 24, 2),
        ({"max_steps": 0, "num_train_epochs": 0.01}, 8, 1),
    ],
)
def test_steps_follow_from_max_steps_or_else_from_the_epochs(overrides, examples, steps):
    assert RunConfig(**overrides).steps(examples) == steps


# Overrides and where values come from


def test_an_override_replaces_one_value_and_says_so():
    changed = RunConfig().with_overrides({"max_steps": "200", "r": None}, "this notebook")

    assert changed == RunConfig(max_steps=200)
    assert changed.origin == {"max_steps": "this notebook"}


def test_a_later_override_keeps_the_origin_of_earlier_ones():
    first = RunConfig().with_overrides({"max_steps": 200, "r": 8}, "run folder")
    second = first.with_overrides({"max_steps": 300}, "this notebook")
    assert second.origin == {"max_steps": "this notebook", "r": "run folder"}


def test_an_override_of_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="Did you mean 'max_steps'"):
        RunConfig().with_overrides({"max_step": 1}, "this notebook")


def test_the_table_shows_every_setting_with_its_value_and_origin(plain_machine):
    table = presets.preset("smoke").with_overrides({"max_steps": 3}, "this notebook").table()

    assert list(table.index) == NAMES
    assert list(table.loc["max_steps", ["value", "unit", "from"]]) == ["3", "steps", "this notebook"]
    assert list(table.loc["train_examples", ["value", "unit", "from"]]) == ["24", "examples", "preset smoke"]
    assert table.loc["target_modules", "value"].startswith("q_proj, k_proj, ")
    assert (table["purpose"] != "").all()


def test_the_tables_of_the_stages_together_are_the_whole_table():
    settings = RunConfig()
    parts = [name for stage in config.STAGES for name in settings.table(stage).index]
    assert sorted(parts) == sorted(settings.table().index)


def test_the_values_make_the_same_configuration_again(plain_machine):
    settings = presets.preset("smoke")
    assert RunConfig(**settings.values()) == settings


# Settings of older versions


def test_settings_of_an_older_run_are_read_by_their_names_of_today():
    old = RunConfig(candidates=4).values() | {"question_weight": 0.7, "date_string": "26 Jul 2024", "twin_weight": 0.0}
    old.pop("rerank_weight")
    old |= {"train_variants": 3, "gradient_accumulation_steps": 8}
    for name in ("prompts_per_example", "train_batch_size"):
        old.pop(name)
    old |= {"dataloader_pin_memory": True, "gpu_memory_gib": 3.4, "ensemble_runs": [], "rereadings": 0, "held_out_part": 0}
    found = config.from_stored(old, "full", {"question_weight": "this notebook", "twin_weight": "command line"})
    assert found == RunConfig(candidates=4, rerank_weight=0.7, prompts_per_example=3, train_batch_size=8)
    assert (found.preset, dict(found.origin)) == ("full", {"rerank_weight": "this notebook"})


@pytest.mark.parametrize("micro_batch, accumulation, batch", [(0, 8, 8), (1, 8, 8), (8, 1, 8), (4, 8, 32)])
def test_accumulation_of_an_older_run_becomes_the_batch_size(micro_batch, accumulation, batch):
    old = {"per_device_train_batch_size": micro_batch, "gradient_accumulation_steps": accumulation}
    assert config.from_stored(old).train_batch_size == batch


@pytest.mark.parametrize(
    "name, says",
    [
        ("question_weight", "It is now 'rerank_weight'"),
        ("twin_weight", "It was removed in 0.2.0"),
        ("train_variant", "No parameter"),
    ],
)
def test_an_older_name_is_refused_with_its_name_of_today(name, says):
    with pytest.raises(ValueError, match=says):
        checked(name, 1)


@pytest.mark.parametrize(
    "name, value", [("twin_weight", 1.0), ("rereadings", 2), ("ensemble_runs", ["runs/b"]), ("held_out_part", 1)]
)
def test_a_setting_that_is_gone_and_had_an_effect_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"made with {name}=.* which 0.2.0 removed"):
        config.from_stored({name: value})
