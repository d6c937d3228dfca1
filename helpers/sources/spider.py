"""Load questions and databases: real Spider, the embedded demo data, or a folder of the user's own."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.databases import schema
from helpers.databases.layout import FIELDS, BadData, Example, find_databases, first_file, read_rows, read_tables
from helpers.databases.sandbox import Result, Sandbox
from helpers.judge.hardness import LEVELS, hardness
from helpers.run import machine
from helpers.run.files import file_sha256, replaced_folder
from helpers.run.progress import tqdm
from helpers.sources import download

if TYPE_CHECKING:
    import pandas as pd

SAMPLE = Path(__file__).parent / "sample"
NEWER = "00636695dabed6b5f4b8328a16b13e069a2f16591d5efcce57660669c85b121b"
SOURCES = (
    download.Source(
        name="Hugging Face xlangai/spider",
        url="https://huggingface.co/datasets/xlangai/spider/resolve/6232cc3fad6d54c62b3ba23a364083a98ff36a17/data/spider.zip",
        sha256="5ddff97bb1d421282c593e8d30ce0ce107270f4dd4a21d60eba4bf287d5956b1",
        size=99_736_136,
    ),
    download.Source(
        name="Hugging Face HAL-9001/spider-databases",
        url="https://huggingface.co/datasets/HAL-9001/spider-databases/resolve/4a01bbac6520cd35b216db9e1724e5e1ada60aa4/spider_data.zip",
        sha256=NEWER,
        size=205_800_266,
    ),
    download.Source(
        name="Google Drive (the official link)",
        url="https://drive.usercontent.google.com/download?id=1403GEqzIDoHMdQF4c9Bkyl7dZLZ5Wt6J&export=download&confirm=t",
        sha256=NEWER,
        size=205_800_266,
    ),
)
DEV_SHA256 = "30d64a3fccde493226df79687aed9e4a1c0129525baf44f29c0573d914d758a4"  # of the release's dev.json
# Copies of wta_1, by their SHA-256, of which one table is known to hold other rows than the release's (public tennis data).
KNOWN_TO_DIFFER = {"559d91c6020fd6ee7bdc8635839aa5d0fe836245c015d03596c3094ec2315ef9": "rankings"}
AS_FOUND = "databases as found, not checked to be the release's bytes"
UNPACKED_BYTES, UNPACKED_FILES = 4 * machine.GIB, 5_000  # Spider takes about 1 GB in 1,000 files
HELD_OUT = 0.2  # share of a user's own examples kept for dev where there is no dev file


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Training and dev examples, and the databases that they are about.

    Attributes:
        name: the data set's name beside scores.
        note: what a reader of scores must know of this copy of Spider; '' for the release's own bytes and for other data.
        databases: path of each database by its db_id.
        tables: schemas of tables.json by db_id, where the folder has that file.
    """

    name: str
    note: str
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    databases: dict[str, Path]
    tables: dict[str, schema.Schema] = dataclasses.field(default_factory=dict)

    def schema_of(self, db_id: str) -> schema.Schema:
        """Return the schema of a database as in its file, with the display names of tables.json.

        Raises:
            schema.BadDatabase: the file cannot be read.
        """
        return schema.with_display_names(schema.read(self.databases[db_id]), self.tables.get(db_id))

    def run_gold(self, example: Example) -> Result:
        """Run an example's gold SQL in the sandbox, and return its rows or error."""
        with Sandbox() as sandbox:
            return sandbox.execute(self.databases[example.db_id], example.query)

    @functools.cached_property
    def sha256(self) -> str:
        """One checksum over all examples and all databases that they are about."""
        total = hashlib.sha256()
        for example in (*self.train, *self.dev):
            total.update(json.dumps([example.question, example.query, example.db_id]).encode())
        for db_id in sorted({example.db_id for example in (*self.train, *self.dev)}):
            total.update(bytes.fromhex(file_sha256(self.databases[db_id])))
        return total.hexdigest()

    def counts(self) -> pd.DataFrame:
        """Return a pandas table of examples by hardness, and of databases, for train and dev."""
        import pandas as pd

        columns = {}
        for name, examples in (("train", self.train), ("dev", self.dev)):
            levels = Counter(example.hardness for example in examples)
            columns[name] = [
                *(levels[level] for level in LEVELS),
                len(examples),
                len({example.db_id for example in examples}),
            ]
        return pd.DataFrame(columns, index=[*LEVELS, "all", "databases"])


def load(data_source: str, held_out_databases: int = 0) -> DataSet:
    """Load a data set.

    Args:
        data_source: "spider", "sample" or a folder.
        held_out_databases: as in `hold_out`; 0 leaves train and dev as they are.

    Raises:
        download.DownloadError: Spider could not be fetched.
        BadData: a folder does not hold what it should; each fault is named.
    """
    if held_out_databases:
        return hold_out(load(data_source), held_out_databases)
    if data_source == "sample":
        return load_sample()
    if data_source == "spider":
        return load_spider()
    check_source(data_source)
    return load_folder(machine.resolve(data_source))


def hold_out(dataset: DataSet, count: int) -> DataSet:
    """Replace dev by the examples of `count` train databases, always the same ones, to choose settings by.

    Raises:
        BadData: no database would be left to train on.
    """
    trained_on = sorted({example.db_id for example in dataset.train})
    if count >= len(trained_on):
        raise BadData(f"held_out_databases={count}, but {dataset.name} trains on {len(trained_on)} databases: some must be left")
    held = set(random.Random(0).sample(trained_on, count))
    return dataclasses.replace(
        dataset,
        name=f"{dataset.name}, {count} train databases held out",
        train=tuple(example for example in dataset.train if example.db_id not in held),
        dev=tuple(dataclasses.replace(example, seen=False) for example in dataset.train if example.db_id in held),
    )


def check_source(data_source: str) -> None:
    """Refuse a `data_source` that names nothing, before anything is fetched or read.

    Raises:
        BadData: it is neither a known name nor a folder.
    """
    if data_source not in ("spider", "sample") and not machine.resolve(data_source).is_dir():
        raise BadData(f"data_source={data_source!r} is neither 'spider' nor 'sample' nor a folder")


# ---- Spider and the demo data


def load_spider() -> DataSet:
    """Load Spider from SPIDER_DIR where that is set, else downloaded, verified and cached.

    Raises:
        download.DownloadError, BadData: as `load`.
    """
    if given := os.environ.get("SPIDER_DIR"):
        return dataclasses.replace(load_folder(machine.resolve(given), name="Spider"), note=AS_FOUND)
    unpacked = machine.cache_dir() / "spider"
    if not unpacked.is_dir():
        archive = download.fetch(SOURCES, machine.cache_dir())
        download.unpack(archive, unpacked, max_bytes=UNPACKED_BYTES, max_files=UNPACKED_FILES)
        archive.unlink()
    found = sorted(unpacked.rglob("dev.json"), key=lambda path: len(path.parts))
    if not found:
        raise BadData(f"{unpacked} has no dev.json: delete that folder and run again")
    dataset = load_folder(found[0].parent, name="Spider")
    return dataclasses.replace(dataset, note="")  # its archive's checksum was that of the release


def load_sample() -> DataSet:
    """Load the embedded demo data."""
    return load_folder(sample_folder(), name="embedded sample")


def sample_folder() -> Path:
    """Return the demo data in Spider's layout. Its SQLite files are built from SQL text at first use, in the cache."""
    total = hashlib.sha256()
    for file in sorted(SAMPLE.rglob("*")):
        if file.suffix in (".csv", ".sql"):
            total.update(file.name.encode() + file.read_bytes())
    folder = machine.cache_dir() / f"sample-{total.hexdigest()[:12]}"
    if not folder.is_dir():
        build_sample(folder)
    return folder


def build_sample(folder: Path) -> None:
    """Write the demo data in Spider's layout."""
    with replaced_folder(folder) as target:
        scripts = sorted((SAMPLE / "database").glob("*.sql"))
        for script in scripts:
            database = target / "database" / script.stem / f"{script.stem}.sqlite"
            database.parent.mkdir(parents=True)
            with closing(sqlite3.connect(database)) as connection:
                connection.executescript(script.read_text(encoding="utf-8"))
        for name, file in (("train_spider.json", "train.csv"), ("dev.json", "dev.csv")):
            rows = [row for _, row in read_rows(SAMPLE / file)]
            (target / name).write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
        entries = [schema.read(target / "database" / script.stem / f"{script.stem}.sqlite").as_spider() for script in scripts]
        (target / "tables.json").write_text(json.dumps(entries, indent=1), encoding="utf-8")


def differing(golds: Sequence[tuple[str, str]], databases: Mapping[str, Path]) -> list[int]:
    """Return the indices of the (gold SQL, db_id) pairs that use data known to differ from the release's."""
    tables = {}
    for db_id in {db_id for _, db_id in golds if db_id == "wta_1"}:
        tables[db_id] = KNOWN_TO_DIFFER.get(file_sha256(databases[db_id]))
    return [index for index, (sql, db_id) in enumerate(golds) if (table := tables.get(db_id)) and table in sql.lower()]


# ---- a folder


def load_folder(folder: Path, name: str | None = None) -> DataSet:
    """Load a folder in Spider's layout, or one with the user's own train and dev files beside SQLite files.

    Examples: `train_spider.json` or `train.json`, `.jsonl` or `.csv`; `dev.json`, `.jsonl` or `.csv`; each with the fields
    question, query (or sql) and db_id. Databases: `database/<db_id>/<db_id>.sqlite`, or `<db_id>.sqlite` (or .db) beside the
    examples. Without a dev file, a fifth of the examples, drawn at random, is held out for it. Data that is not Spider's is
    checked to the last row before anything else: every query must run.

    Raises:
        BadData: names each bad row or file (the first ten, and how many in all).
    """
    train_file = first_file(folder, ("train_spider.json", "train.json", "train.jsonl", "train.csv"))
    dev_file = first_file(folder, ("dev.json", "dev.jsonl", "dev.csv"))
    if train_file is None:
        raise BadData(
            f"{folder} has no train_spider.json, train.json, train.jsonl or train.csv.\n"
            "  A data folder has one of them (fields question, query, db_id), and <db_id>.sqlite beside it or in database/<db_id>"
        )
    rows = {file: list(read_rows(file)) for file in (train_file, dev_file) if file}
    db_ids = {row["db_id"] for file in rows for _, row in rows[file] if isinstance(row["db_id"], str)}
    databases = find_databases(folder, db_ids)
    official = dev_file is not None and is_official(dev_file, rows[dev_file], train_file)
    with Sandbox() as sandbox:
        faults = [fault for file in rows for fault in find_faults(file, rows[file], databases, None if official else sandbox)]
    if faults:
        more = f"\n  … and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise BadData(f"{folder} cannot be used:\n" + "\n".join(f"  {fault}" for fault in faults[:10]) + more)
    train, dev = split([row for _, row in rows[train_file]], [row for _, row in rows[dev_file]] if dev_file else None)
    return DataSet(
        name=name or ("Spider" if official else folder.name),
        note=AS_FOUND if official else "",
        train=tuple(make_examples(train, seen=set())),
        dev=tuple(make_examples(dev, seen={row["db_id"] for row in train})),
        databases=databases,
        tables=read_tables(folder / "tables.json") if (folder / "tables.json").is_file() else {},
    )


def is_official(dev_file: Path, dev_rows: list, train_file: Path) -> bool:
    """Whether these are Spider's own questions, recognised by checksum, or by number and file names."""
    same_bytes = file_sha256(dev_file) == DEV_SHA256
    return same_bytes or (train_file.name == "train_spider.json" and len(dev_rows) == 1034)


def find_faults(file: Path, rows: list[tuple[str, dict]], databases: dict[str, Path], sandbox: Sandbox | None) -> list[str]:
    """Return one line for each row that cannot be used: file, position, and what is wrong.

    Args:
        sandbox: runs the queries; None if they need not be tried.
    """
    faults = []
    for position, row in tqdm(rows, desc=f"checking {file.name}", unit="row", disable=not sandbox, leave=False):
        missing = [field for field in FIELDS if not isinstance(row[field], str) or not row[field].strip()]
        if missing:
            faults.append(f"{file.name}, {position}: no {' and no '.join(missing)}")
        elif row["db_id"] not in databases:
            faults.append(
                f"{file.name}, {position}: no database {row['db_id']!r} (database/{row['db_id']}/{row['db_id']}.sqlite)"
            )
        elif sandbox:
            result = sandbox.execute(databases[row["db_id"]], row["query"])
            if not result.ok:
                faults.append(f"{file.name}, {position}: {result.error}: {row['query'][:80]}")
    return faults


def split(train: list[dict], dev: list[dict] | None) -> tuple[list[dict], list[dict]]:
    """Return training and dev rows; without dev rows, a fifth of the training rows drawn at random (always the same ones).

    Raises:
        BadData: nothing would be left to train on.
    """
    if dev is not None:
        return train, dev
    held_out = set(random.Random(0).sample(range(len(train)), max(1, round(HELD_OUT * len(train)))))
    kept = [row for number, row in enumerate(train) if number not in held_out]
    if not kept:
        raise BadData("One example is too few: there must be some to train on and some to judge by")
    return kept, [train[number] for number in sorted(held_out)]


def make_examples(rows: list[dict], seen: set[str]) -> Iterator[Example]:
    """Yield examples from checked rows; `seen` are the databases of the training examples."""
    for row in rows:
        yield Example(
            question=" ".join(row["question"].split()),
            query=row["query"].strip(),
            db_id=row["db_id"],
            hardness=hardness(row["query"]),
            seen=row["db_id"] in seen,
        )
