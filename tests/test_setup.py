"""Making a run, reopening it, and changing its settings."""

import pytest
from conftest import ROOT, finish, names

from helpers import setup
from helpers.run import machine
from helpers.run.folder import OtherConfiguration, Run

pytestmark = pytest.mark.usefixtures("plain_machine")


@pytest.fixture
def run(tmp_path):
    """A new run of the smallest preset."""
    return setup.start(tmp_path / "runs" / "mine", "smoke")[0]


# Making and reopening a run


def test_start_makes_a_folder_that_knows_its_configuration(tmp_path):
    run, settings = setup.start(tmp_path / "mine", "smoke", max_steps="3")

    assert settings.max_steps == 3
    assert Run(tmp_path / "mine").config() == settings
    assert run.config().preset == "smoke"
    assert run.config().origin == {"max_steps": "run folder"}


def test_start_reopens_a_run_with_its_own_configuration(tmp_path):
    setup.start(tmp_path / "mine", "smoke", max_steps=3)
    _, settings = setup.start(tmp_path / "mine", None)
    assert (settings.preset, settings.max_steps) == ("smoke", 3)


def test_reopening_without_a_change_leaves_the_files_alone(run):
    before = (run / "config.json").stat().st_mtime_ns, (run / "record.json").stat().st_mtime_ns
    setup.start(run.path, "smoke", max_steps=run.config().max_steps)
    assert ((run / "config.json").stat().st_mtime_ns, (run / "record.json").stat().st_mtime_ns) == before


def test_another_preset_than_the_runs_is_refused(run):
    with pytest.raises(OtherConfiguration, match=r"was made with preset 'smoke', not 'cpu': leave preset at None, or set"):
        setup.start(run.path, "cpu")
    with pytest.raises(OtherConfiguration, match="preset 'smoke', not 'cpu'"):
        setup.open_run(run.path, "cpu", stage="data", needs="setup")


def test_auto_is_the_runs_preset_where_it_means_the_same(tmp_path):
    setup.start(tmp_path / "mine", "cpu")
    _, settings = setup.start(tmp_path / "mine", "auto")
    assert settings.preset == "cpu"


def test_an_unknown_preset_is_refused_for_a_run_that_exists_as_well(run):
    with pytest.raises(ValueError, match="Did you mean 'smoke'"):
        setup.start(run.path, "smok")


def test_a_refused_start_makes_no_folder(tmp_path):
    with pytest.raises(ValueError, match="learning_rate"):
        setup.start(tmp_path / "mine", "smoke", learning_rate="fast")
    assert names(tmp_path) == []


@pytest.mark.parametrize("switch", [{"use_drive": "false"}, {"switches": {"resume": "false"}}])
def test_a_switch_in_words_is_refused(run, switch):
    """papermill's `-p resume false` is the text 'false', which Python takes for true."""
    with pytest.raises(ValueError, match="must be True or False: write False"):
        setup.open_run(run.path, None, stage="data", needs="setup", **switch)


def test_run_dir_and_run_preset_stand_for_what_is_not_named(tmp_path, monkeypatch):
    monkeypatch.setenv("RUN_DIR", str(tmp_path / "mine"))
    monkeypatch.setenv("RUN_PRESET", "smoke")

    run, settings = setup.start(None, None)

    assert run.path == tmp_path / "mine"
    assert settings.preset == "smoke"
    assert setup.open_run(None, None, stage="data", needs="setup")[1] == settings


def test_what_is_named_counts_more_than_the_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("RUN_DIR", str(tmp_path / "other"))
    monkeypatch.setenv("RUN_PRESET", "cpu")
    run, settings = setup.start(tmp_path / "mine", "smoke")
    assert (run.path, settings.preset) == (tmp_path / "mine", "smoke")


def test_an_existing_run_counts_more_than_run_preset(run, monkeypatch):
    monkeypatch.setenv("RUN_PRESET", "cpu")
    assert setup.start(run.path, None)[1].preset == "smoke"


def test_a_relative_run_dir_starts_at_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert machine.run_path("runs/mine") == ROOT / "runs" / "mine"


# Changing a run's settings

CHANGES = [  # the notebook, what it is asked to change, the results that are there, whether that may be
    ("data", {"max_seq_length": 512}, (), True),
    ("data", {"max_seq_length": 512}, ("data",), True),  # 02 makes its own result again
    ("data", {"max_seq_length": 512}, ("data", "model"), False),
    ("setup", {"max_seq_length": 512}, (), True),
    ("setup", {"max_seq_length": 512}, ("data",), False),
    ("model", {"r": 8}, ("data", "model"), True),
    ("model", {"r": 8}, ("data", "model", "train"), False),
    ("model", {"max_seq_length": 512}, ("data",), False),  # a setting of an earlier notebook
    ("train", {"max_steps": 3}, ("data", "model", "train"), True),
    ("train", {"max_steps": 3}, ("data", "model", "train", "evaluate"), False),
    ("train", {"r": 8}, ("data", "model"), False),
    ("evaluate", {"eval_questions": 3}, ("data", "model", "train", "evaluate"), True),
    ("evaluate", {"max_steps": 3}, ("data", "model", "train"), False),
    ("train", {"max_steps": 4}, ("data", "model", "train", "evaluate"), True),  # what it is already
    ("train", {"max_steps": None}, ("data", "model", "train", "evaluate"), True),
]


@pytest.mark.parametrize(("stage", "change", "results", "allowed"), CHANGES)
def test_a_setting_may_change_only_while_no_other_notebooks_result_rests_on_it(run, stage, change, results, allowed):
    finish(run, *results)
    before = run.config()

    def reopen():
        if stage == "setup":
            return setup.start(run.path, None, **change)[1]
        return setup.open_run(run.path, None, stage=stage, needs="setup", **change)[1]

    if allowed:
        wanted = before.with_overrides(change, "this notebook")
        assert reopen() == wanted
        assert run.config() == wanted
    else:
        with pytest.raises(OtherConfiguration, match=f"^{next(iter(change))}="):
            reopen()
        assert run.config() == before


def test_a_refused_change_says_what_was_made_with_which_value_and_what_to_do(run):
    finish(run, "data", "model", "train", "evaluate")
    with pytest.raises(OtherConfiguration) as refusal:
        setup.open_run(run.path, None, stage="train", needs="model", max_steps=9)
    assert "max_steps=9 is not what this run was made with (4)" in str(refusal.value)
    assert "evaluation/verdicts.jsonl" in str(refusal.value)
    assert "Set run_dir to a new folder, or leave max_steps at None." in str(refusal.value)


def test_a_change_is_in_the_record_and_shown_with_its_origin(run):
    _, settings = setup.open_run(run.path, None, stage="data", needs="setup", max_steps=9)
    assert settings.table().loc["max_steps", "from"] == "this notebook"
    assert run.config().table().loc["max_steps", "from"] == "run folder"
    assert run.record()["overrides"] == {"max_steps": 9}
