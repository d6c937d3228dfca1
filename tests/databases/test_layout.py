"""Parts of a data folder."""

import csv
import hashlib
import io
import json

import pytest
from conftest import make_database

from helpers.databases import layout, schema
from helpers.databases.layout import BadData
from helpers.sources import spider

SINGERS = "CREATE TABLE singer (name TEXT, age INT); INSERT INTO singer VALUES ('Ada', 30), ('Bo', 41);"
PETS = "CREATE TABLE pet (name TEXT); INSERT INTO pet VALUES ('Rex');"
NAMES = {"question": "Who sings?", "query": "SELECT name FROM singer", "db_id": "concert"}
COUNT = {"question": "How many singers are there?", "query": "SELECT count(*) FROM singer", "db_id": "concert"}
PET = {"question": "Which pets?", "query": "SELECT name FROM pet", "db_id": "pets"}


@pytest.fixture
def folder(tmp_path):
    """A folder of one's own: one database, no examples yet."""
    make_database(tmp_path / "data" / "mine" / "concert.sqlite", SINGERS)
    return tmp_path / "data" / "mine"


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


def test_all_databases_of_a_folder_are_found_wherever_it_keeps_them(tmp_path):
    folder = make_spider(tmp_path / "mine")
    both = {db_id: folder / "database" / db_id / f"{db_id}.sqlite" for db_id in ("concert", "pets")}
    (folder / "database" / "empty").mkdir()
    assert layout.find_databases(folder) == layout.find_databases(folder / "database") == both


def test_databases_that_lie_side_by_side_are_found_as_well(folder):
    make_database(folder / "pets.db", PETS)
    make_database(folder / "zoo" / "zoo.sqlite", PETS)
    make_database(folder / "zoo" / "zoo_copy.sqlite", PETS)
    expected = {"concert": folder / "concert.sqlite", "pets": folder / "pets.db", "zoo": folder / "zoo" / "zoo.sqlite"}
    assert layout.find_databases(folder) == expected


def test_a_folder_brings_the_schemas_of_its_tables_json(tmp_path):
    folder = make_spider(tmp_path / "mine")
    assert spider.load_folder(folder).tables == {}
    entries = [schema.read(path).as_spider() for path in layout.find_databases(folder).values()]
    write(folder / "tables.json", entries)
    tables = spider.load_folder(folder).tables
    assert set(tables) == {"concert", "pets"}
    assert [column.name for column in tables["concert"].tables[0].columns] == ["name", "age"]


@pytest.mark.parametrize(
    "content",
    ["", "[{", "{}x", "7", '{"a": 1}', "[1]", '[{"db_id": "a"}]', '"text"'],
    ids=["nothing", "cut off", "text after it", "a number", "an object", "numbers", "missing fields", "a string"],
)
def test_a_file_that_is_no_tables_json_is_refused_by_name(tmp_path, content):
    (tmp_path / "tables.json").write_text(content, encoding="utf-8")
    with pytest.raises(BadData, match=r"tables\.json cannot be read as Spider's tables\.json"):
        layout.read_tables(tmp_path / "tables.json")


def test_a_tables_json_whose_keys_lead_nowhere_is_refused(tmp_path):
    entry = schema.read(make_database(tmp_path / "concert.sqlite", SINGERS)).as_spider()
    write(tmp_path / "tables.json", [entry | {"foreign_keys": [[1, 99]]}])
    with pytest.raises(BadData, match="cannot be read as Spider's"):
        layout.read_tables(tmp_path / "tables.json")


def test_questions_differ_only_where_their_copy_of_the_data_is_known_to(tmp_path, monkeypatch):
    database = make_database(tmp_path / "wta_1.sqlite", "CREATE TABLE rankings (a); CREATE TABLE players (a)")
    golds = [("SELECT a FROM players", "wta_1"), ("SELECT a FROM Rankings", "wta_1"), ("SELECT a FROM rankings", "other")]
    databases = {"wta_1": database, "other": database}
    assert spider.differing(golds, databases) == []
    content = hashlib.sha256(database.read_bytes()).hexdigest()
    monkeypatch.setattr(spider, "KNOWN_TO_DIFFER", {content: "rankings"})
    assert spider.differing(golds, databases) == [1]
    assert spider.differing([], {}) == []
