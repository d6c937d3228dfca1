"""Values and names as papermill hands them over."""

import math
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.run import config, parameters, presets
from helpers.run.config import RunConfig, checked

NAMES = [field.name for field in config.settings_fields()]
TEXTS = st.text(max_size=12) | st.sampled_from(["3e-4", "200", " 7 ", "nan", "false"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


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
        ("gradient_checkpointing", False, "off"),  # YAML's off
        ("data_source", 2024, "2024"),
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
        ("model_name", 7.5, "must be text; in a YAML file write it in quotes"),
        ("model_name", False, "must be text"),
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


@settings(deadline=None, max_examples=100)
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
