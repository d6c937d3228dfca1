"""The configuration: the published recipe to the letter, and what papermill hands over made right or refused."""

import math
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.run import config, parameters, presets
from helpers.run.config import RunConfig, checked
from helpers.run.machine import Gpu, NoGpuOnColab

T4 = Gpu(name="Tesla T4", memory_gib=14.7, capability=(7, 5))
NAMES = [field.name for field in config.settings_fields()]
TEXTS = st.text(max_size=12) | st.sampled_from(["3e-4", "200", " 7 ", "nan", "false"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
# Unsloth's published Llama-3.2 notebook; the table of presets in the design.
PUBLISHED = {
    "model_name": "unsloth/Llama-3.2-1B-Instruct",
    "data_source": "spider",
    "load_in_4bit": True,
    "r": 16,
    "lora_alpha": 16,
    "lora_dropout": 0,
    "target_modules": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "max_seq_length": 1024,
    "per_device_train_batch_size": 0,  # 8 examples a step in whichever shape is fastest; 1 is the recipe's own
    "train_batch_size": 8,
    "gradient_checkpointing": "unsloth",
    "optim": "adamw_8bit",
    "learning_rate": 2e-4,
    "lr_scheduler_type": "linear",
    "warmup_steps": 10,
    "weight_decay": 0.01,
    "max_steps": 100,
    "packing": False,
    "precision": "auto",
}


# Presets


@pytest.mark.parametrize(("name", "value"), PUBLISHED.items(), ids=PUBLISHED.keys())
def test_preset_seed_is_the_published_recipe(plain_machine, name, value):
    assert getattr(presets.preset("seed"), name) == value


def test_one_optimiser_step_of_the_published_recipe_sees_eight_examples(plain_machine):
    assert presets.preset("seed").train_batch_size == 8


def test_the_micro_batch_leaves_the_batch_size_as_it_is(plain_machine):
    full = presets.preset("full")
    assert (full.per_device_train_batch_size, full.train_batch_size) == (0, 32)
    assert full.with_overrides({"per_device_train_batch_size": 2}, "this test").train_batch_size == 32


@pytest.mark.parametrize(("gpu", "chosen"), [(T4, "seed"), (None, "cpu")])
def test_auto_is_seed_with_a_gpu_and_else_cpu(plain_machine, gpu, chosen):
    plain_machine(gpu)

    settings = presets.preset("auto")

    assert settings == presets.preset(chosen)
    assert settings.preset == chosen, "scores must name the preset that was really taken"


@pytest.mark.parametrize("name", ["cpu", "smoke"])
def test_the_presets_without_a_gpu_ask_for_nothing_that_needs_one(plain_machine, name):
    settings = presets.preset(name)
    assert not settings.load_in_4bit
    assert (settings.engine, settings.data_source, settings.optim) == ("transformers", "sample", "adamw_torch")


def test_an_unknown_preset_is_refused_with_the_nearest(plain_machine):
    with pytest.raises(ValueError, match=r"No preset is called 'sede'\. Did you mean 'seed'\?"):
        presets.preset("sede")


@pytest.mark.parametrize("name", ["auto", "seed", "full"])
def test_colab_without_a_gpu_stops_with_the_clicks_that_help(plain_machine, monkeypatch, name):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    with pytest.raises(NoGpuOnColab, match="Runtime → Change runtime type → T4 GPU"):
        presets.preset(name)


@pytest.mark.parametrize("name", ["cpu", "smoke"])
def test_colab_without_a_gpu_runs_the_presets_that_need_none(plain_machine, monkeypatch, name):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    assert presets.preset(name).preset == name


def test_colab_with_a_gpu_runs_the_published_recipe(plain_machine, monkeypatch):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    plain_machine(T4)
    assert presets.preset("auto").preset == "seed"


@pytest.mark.parametrize(("variable", "chosen"), [(None, "auto"), ("", "auto"), ("smoke", "smoke")])
def test_an_unnamed_preset_is_run_preset_and_else_auto(plain_machine, monkeypatch, variable, chosen):
    if variable is not None:
        monkeypatch.setenv("RUN_PRESET", variable)
    assert presets.default_preset() == chosen


# Values as papermill hands them over


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("learning_rate", "3e-4", 3e-4),
        ("learning_rate", 1, 1.0),
        ("max_steps", "200", 200),
        ("max_steps", 200.0, 200),
        ("max_steps", "2e2", 200),
        ("eval_questions", " 60 ", 60),
        ("seed", 2**53 + 1, 2**53 + 1),
        ("seed", str(2**53 + 1), 2**53 + 1),
        ("packing", False, False),
        ("target_modules", "q_proj, v_proj", ("q_proj", "v_proj")),
        ("target_modules", ["q_proj"], ("q_proj",)),
    ],
)
def test_a_value_becomes_what_its_writer_meant(name, given, value):
    found = checked(name, given)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(("given", "hint"), [("false", "False"), ("true", "True"), ("FALSE", "False")])
def test_a_truth_value_in_words_is_refused_with_the_right_spelling(given, hint):
    with pytest.raises(ValueError, match=f"must be True or False: write {hint}"):
        checked("packing", given)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("packing", 1, "must be True or False"),
        ("packing", None, "must be True or False"),
        ("max_steps", True, "a whole number"),
        ("max_steps", 1.5, "a whole number"),
        ("max_steps", "many", "a whole number"),
        ("max_steps", [100], "a whole number"),
        ("max_steps", None, "a whole number"),
        ("learning_rate", "fast", "must be a number"),
        ("learning_rate", False, "must be a number"),
        ("learning_rate", {"peak": 1}, "must be a number"),
        ("model_name", "", "must be text"),
        ("model_name", " \n", "must be text"),
        ("model_name", 7, "must be text"),
        ("target_modules", [], "a list of names"),
        ("target_modules", "", "a list of names"),
        ("target_modules", [1], "a list of names"),
        ("target_modules", 3, "a list of names"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(name, value, reason):
    with pytest.raises(ValueError, match=f"^{name}=.*{reason}"):
        checked(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("r", 0),
        ("max_steps", -1),
        ("max_seq_length", 15),
        ("train_examples", -1),
        ("learning_rate", -1e-4),
        ("learning_rate", math.nan),
        ("learning_rate", "nan"),
        ("learning_rate", math.inf),
        ("learning_rate", "-inf"),
        ("learning_rate", 10**400),
        ("max_steps", math.inf),
        ("max_steps", math.nan),
        ("query_timeout", 0),
    ],
)
def test_a_number_out_of_range_is_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name}="):
        checked(name, value)


def test_a_value_outside_of_the_choices_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"one of 'linear', 'cosine', 'constant'\. Did you mean 'cosine'\?"):
        checked("lr_scheduler_type", "cosin")


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"No parameter is called 'learning_rat'\. Did you mean 'learning_rate'\?"):
        checked("learning_rat", 1)


def test_a_name_like_no_other_is_refused_without_a_guess():
    with pytest.raises(ValueError, match=r"No parameter is called 'xyzzy'\.$"):
        checked("xyzzy", 1)


@settings(deadline=None, max_examples=300)
@given(name=st.sampled_from(NAMES), value=JSON)
def test_any_value_becomes_one_of_the_declared_type_or_is_refused(name, value):
    try:
        found = checked(name, value)
    except ValueError as error:
        assert name in str(error)
    else:
        declared = typing.get_type_hints(RunConfig)[name]
        kinds = typing.get_args(declared) if typing.get_origin(declared) is not tuple else (tuple,)
        assert type(found) in (kinds or (declared,))
        assert checked(name, found) == found


@settings(deadline=None, max_examples=50)
@given(number=st.integers(min_value=0, max_value=2**64))
def test_a_whole_number_is_kept_to_the_last_digit(number):
    assert checked("seed", number) == checked("seed", str(number)) == number


def test_a_configuration_made_directly_is_checked_as_well():
    with pytest.raises(ValueError, match="r=0"):
        RunConfig(r=0)
    assert RunConfig(r="8").r == 8


def test_a_configuration_that_leaves_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="nothing to train"):
        RunConfig(max_steps=0, num_train_epochs=0)


def test_a_configuration_cannot_be_changed_in_place():
    with pytest.raises(AttributeError):
        RunConfig().r = 8


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


# Names that papermill brings in


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A running IPython, as in a kernel: its `run_cell` keeps what was run in `In`."""
    shells = pytest.importorskip("IPython.core.interactiveshell")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    shells.InteractiveShell.clear_instance()
    shell = shells.InteractiveShell.instance()
    shell.history_manager.enabled = False
    yield shell
    shells.InteractiveShell.clear_instance()


def test_a_name_that_papermill_brings_and_the_notebook_does_not_know_is_refused(notebook):
    notebook.run_cell("# Parameters\nmax_steps = 3\nlearning_rat = 0.1\n", store_history=True)
    with pytest.raises(ValueError, match=r"'learning_rat' here\. Did you mean 'learning_rate'\?"):
        parameters.refuse_unknown_parameters({"max_steps", "learning_rate"})


def test_names_that_the_notebook_knows_or_made_itself_pass(notebook):
    notebook.run_cell("# Parameters\nmax_steps = 3\n", store_history=True)
    notebook.run_cell("my_own = 1", store_history=True)
    parameters.refuse_unknown_parameters({"max_steps", "learning_rate"})


def test_the_record_says_how_answers_are_found():
    linked = presets.preset("smoke").with_overrides({"prompt_style": "linked", "constrained": True}, "this test")
    assert presets.preset("smoke").decoding == "greedy"
    assert linked.decoding == "greedy, grammar-constrained"
    wider = linked.with_overrides({"candidates": 4, "rerank_weight": 0.7}, "this test")
    assert wider.decoding == "4 beams, execution-guided selection, grammar-constrained, noisy-channel reranker (weight 0.7)"
