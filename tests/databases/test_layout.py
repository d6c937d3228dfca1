"""Parts of a data folder."""

import hashlib

import pytest
from conftest import PETS, SINGERS, make_database, make_spider, write

from helpers.databases import layout, schema
from helpers.databases.layout import BadData
from helpers.sources import spider


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
