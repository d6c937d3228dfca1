"""Questions and databases: Spider's layout, folders of a user's own with all their faults, and the download."""

import functools
import hashlib
import threading
import zipfile
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import COUNT, NAMES, PET, PETS, SINGERS, make_database, make_spider, write
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.databases import layout
from helpers.databases.layout import BadData
from helpers.sources import spider
from helpers.sources.download import DownloadError, Source


def refusal(folder):
    """What loading says of a folder that it refuses."""
    with pytest.raises(BadData) as refused:
        spider.load_folder(folder)
    return str(refused.value)


# Layouts


def test_a_folder_in_spiders_layout_is_loaded(tmp_path):
    dataset = spider.load_folder(make_spider(tmp_path / "mine"))

    assert (dataset.name, dataset.note) == ("mine", "")
    assert [(e.question, e.query, e.db_id) for e in dataset.train] == [tuple(NAMES.values())]
    assert [(e.db_id, e.seen) for e in dataset.dev] == [("concert", True), ("pets", False)]
    assert dataset.databases["pets"] == tmp_path / "mine" / "database" / "pets" / "pets.sqlite"


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl"])
def test_examples_of_ones_own_lie_beside_their_databases(folder, suffix):
    write(folder / f"train.{suffix}", [NAMES])
    write(folder / f"dev.{suffix}", [COUNT])

    dataset = spider.load_folder(folder)

    assert [e.question for e in dataset.train] == ["Who sings?"]
    assert [e.query for e in dataset.dev] == ["SELECT count(*) FROM singer"]
    assert dataset.databases == {"concert": folder / "concert.sqlite"}


@pytest.mark.parametrize("place", ["pets.db", "pets/pets.sqlite", "database/pets/pets.sqlite"])
def test_a_database_is_found_wherever_a_folder_may_keep_it(folder, place):
    make_database(folder / place, PETS)
    write(folder / "train.json", [NAMES])
    write(folder / "dev.json", [PET])
    assert spider.load_folder(folder).databases["pets"] == folder / place


@pytest.mark.parametrize("name", ["sql", "SQL"])
def test_the_query_may_be_called_sql(folder, name):
    write(folder / "train.csv", [{"question": e["question"], name: e["query"], "db_id": "concert"} for e in (NAMES, COUNT)])
    dataset = spider.load_folder(folder)
    assert {e.query for e in (*dataset.train, *dataset.dev)} == {NAMES["query"], COUNT["query"]}


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: b"\xef\xbb\xbf" + raw.replace(b"\n", b"\r\n"),
        lambda raw: raw.rstrip(b"\n"),
        lambda raw: raw + b"\n\n",
    ],
    ids=["byte order mark", "CRLF", "both", "no last line end", "empty lines at the end"],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_what_a_spreadsheet_or_editor_adds_is_no_fault(folder, suffix, change):
    write(folder / f"train.{suffix}", [NAMES, COUNT])
    write(folder / "dev.json", [COUNT])
    raw = (folder / f"train.{suffix}").read_bytes()

    (folder / f"train.{suffix}").write_bytes(change(raw))

    train = spider.load_folder(folder).train
    assert [(e.question, e.query, e.db_id) for e in train] == [tuple(NAMES.values()), tuple(COUNT.values())]


@settings(deadline=None, max_examples=100)
@given(
    question=st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip) | st.just("A\u2028B\x85C\x0cD"),
    suffix=st.sampled_from([".csv", ".json", ".jsonl"]),
)
def test_any_question_is_read_as_it_was_written(tmp_path_factory, question, suffix):
    """Letters that some programs take for line ends included. A CSV file's own line ends are the one thing not kept."""
    file = tmp_path_factory.mktemp("rows") / f"train{suffix}"
    write(file, [NAMES | {"question": question}, COUNT])

    rows = [row for _, row in layout.read_rows(file)]

    wanted = question.replace("\r\n", "\n").replace("\r", "\n") if suffix == ".csv" else question
    assert rows == [NAMES | {"question": wanted}, COUNT]


def test_white_space_in_a_question_is_one_space(folder):
    write(folder / "train.json", [NAMES | {"question": " Who\n  sings? "}, COUNT])
    write(folder / "dev.json", [COUNT])
    assert spider.load_folder(folder).train[0].question == "Who sings?"


def test_examples_know_their_hardness(folder):
    write(folder / "train.json", [COUNT])
    write(folder / "dev.json", [NAMES | {"query": "SELECT name FROM singer WHERE age > (SELECT avg(age) FROM singer)"}])
    dataset = spider.load_folder(folder)
    assert (dataset.train[0].hardness, dataset.dev[0].hardness) == ("easy", "hard")


def test_counts_are_by_hardness_and_database(tmp_path):
    counts = spider.load_folder(make_spider(tmp_path)).counts()
    assert list(counts.index) == ["easy", "medium", "hard", "extra", "all", "databases"]
    assert list(counts["train"]) == [1, 0, 0, 0, 1, 1]
    assert list(counts["dev"]) == [2, 0, 0, 0, 2, 2]


# The held-out fifth


@settings(deadline=None, max_examples=40)
@given(count=st.integers(min_value=2, max_value=200))
def test_without_dev_a_fifth_is_held_out(count):
    rows = [{"question": str(number)} for number in range(count)]

    train, dev = spider.split(rows, None)

    assert sorted(train + dev, key=lambda row: int(row["question"])) == rows, "each row is in one part, none in both"
    assert abs(len(dev) - count / 5) <= 0.5 or len(dev) == 1
    assert train and dev
    assert spider.split(rows, None) == (train, dev), "always the same ones"


def test_a_folder_without_dev_is_split(folder):
    write(folder / "train.csv", [NAMES | {"question": f"Who sings on day {day}?"} for day in range(10)])
    dataset = spider.load_folder(folder)
    assert (len(dataset.train), len(dataset.dev)) == (8, 2)
    assert not {e.question for e in dataset.train} & {e.question for e in dataset.dev}
    assert all(e.seen for e in dataset.dev)


def test_one_example_without_dev_is_too_few(folder):
    write(folder / "train.json", [NAMES])
    assert "One example is too few" in refusal(folder)


# Databases held out


def test_held_out_databases_are_judged_and_not_trained_on(sample):
    there = {one.db_id for one in sample.train}
    part = spider.hold_out(sample, 2)
    train, dev = ({one.db_id for one in some} for some in (part.train, part.dev))
    assert len(dev) == 2 and train and not train & dev and train | dev == there
    assert len(part.train) + len(part.dev) == len(sample.train)
    assert not any(one.seen for one in part.dev)
    assert part.name != sample.name
    assert spider.hold_out(sample, 2) == part
    for count in (len(there), len(there) + 1):
        with pytest.raises(layout.BadData, match="some must be left"):
            spider.hold_out(sample, count)


# Rows that cannot be used


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        ({"question": ""}, "no question"),
        ({"query": "  "}, "no query"),
        ({"question": "", "db_id": ""}, "no question and no db_id"),
        ({"db_id": "opera"}, "no database 'opera' (database/opera/opera.sqlite)"),
        ({"db_id": "x" * 300}, "no database 'xxx"),
        ({"query": "SELECT nmae FROM singer"}, "no such column: nmae: SELECT nmae FROM singer"),
        ({"query": "SELECT * FROM opera"}, "no such table: opera"),
        ({"query": "SELEKT 1"}, 'near "SELEKT": syntax error'),
        ({"query": "DROP TABLE singer"}, "not authorized"),
        ({"query": "SELECT 1; SELECT 2"}, "You can only execute one statement"),
    ],
)
@pytest.mark.parametrize(("suffix", "place"), [("csv", "line 3"), ("jsonl", "line 2"), ("json", "entry 1")])
def test_a_bad_row_is_named_with_file_and_line(folder, suffix, place, bad, fault):
    write(folder / f"train.{suffix}", [NAMES, COUNT | bad])
    assert f"\n  train.{suffix}, {place}: {fault}" in refusal(folder)


@pytest.mark.parametrize("value", [None, 7, ["concert"], {"id": "concert"}, True])
@pytest.mark.parametrize("field", ["question", "query", "db_id"])
def test_a_field_that_is_no_text_is_missing(folder, field, value):
    write(folder / "train.json", [NAMES, COUNT | {field: value}])
    assert f"train.json, entry 1: no {field}" in refusal(folder)


def test_a_column_that_is_not_there_is_missing_in_every_row(folder):
    write(folder / "train.csv", [{"question": "Who sings?", "answer": "SELECT name FROM singer", "db_id": "concert"}] * 2)
    assert "train.csv, line 2: no query\n  train.csv, line 3: no query" in refusal(folder)


def test_a_row_with_too_few_fields_is_named(folder):
    (folder / "train.csv").write_text("question,query,db_id\nWho sings?,SELECT name FROM singer,concert\nWho?,SELECT 1\n")
    assert "train.csv, line 3: no db_id" in refusal(folder)


def test_a_comma_outside_of_quotes_is_named_by_its_line(folder):
    """The commonest slip in a CSV file written by hand: the rest of the query lands in the next column."""
    (folder / "train.csv").write_text("question,query,db_id\nWho?,SELECT name, age FROM singer,concert\n")
    assert "train.csv, line 2: no database ' age FROM singer'" in refusal(folder)


def test_a_row_after_a_text_of_several_lines_is_named_by_its_own_line(folder):
    write(folder / "train.csv", [NAMES | {"query": "SELECT name\nFROM singer"}, COUNT | {"db_id": "opera"}])
    assert "train.csv, line 4: no database 'opera'" in refusal(folder)


def test_a_bad_row_of_dev_is_named_as_well(folder):
    write(folder / "train.json", [NAMES])
    write(folder / "dev.jsonl", [COUNT | {"question": ""}])
    assert "dev.jsonl, line 1: no question" in refusal(folder)


def test_ten_bad_rows_are_named_and_the_others_counted(folder):
    write(folder / "train.json", [NAMES | {"db_id": f"db_{number}"} for number in range(13)])
    text = refusal(folder)
    assert [f"entry {number}:" in text for number in range(13)] == [True] * 10 + [False] * 3
    assert text.endswith("… and 3 more")


def test_a_database_that_is_none_is_named_by_the_row_that_asks_it(folder):
    (folder / "fake.sqlite").write_text("This is no database, however long it may be. " * 50)
    write(folder / "train.json", [NAMES, COUNT | {"db_id": "fake"}])
    assert "train.json, entry 1: file is not a database" in refusal(folder)


@pytest.mark.parametrize("db_id", ["../x", "../../x", "..", "concert/../../x", "ABSOLUTE", "nul\0"])
def test_a_db_id_that_leads_out_of_the_folder_finds_nothing(folder, db_id):
    outside = make_database(folder.parent / "x.sqlite", SINGERS)
    make_database(folder.parent.parent / "x.sqlite", SINGERS)
    (folder / "database").mkdir()
    db_id = str(outside.with_suffix("")) if db_id == "ABSOLUTE" else db_id
    write(folder / "train.json", [NAMES, COUNT | {"db_id": db_id}])
    assert f"train.json, entry 1: no database {db_id!r}" in refusal(folder)


def test_a_link_to_a_database_elsewhere_will_do(folder):
    (folder / "x.sqlite").symlink_to(make_database(folder.parent / "x.sqlite", SINGERS))
    write(folder / "train.json", [NAMES, COUNT | {"db_id": "x"}])
    assert set(spider.load_folder(folder).databases) == {NAMES["db_id"], "x"}


# Files that cannot be read


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("train.csv", "", "holds no examples"),
        ("train.csv", "question,query,db_id\n", "holds no examples"),
        ("train.json", "[]", "holds no examples"),
        ("train.json", '{"question": "Who sings?"}', "holds no examples"),
        ("train.json", "7", "cannot be read"),
        ("train.json", '[{"question": "Who', "cannot be read"),
        ("train.json", "[" * 100_000, "cannot be read"),
        ("train.jsonl", "\n", "holds no examples"),
        ("train.jsonl", '{"db_id": "concert"}\n\n{"question": \n', "cannot be read: line 3, column 14: "),
        ("train.jsonl", "7\n", "holds no examples"),
        ("train.csv", 'question,query,db_id\nWho?,SELECT 1,concert\nWho?,"SELECT 1,concert\n', "cannot be read after line 2: "),
        ("train.csv", 'question,query,db_id\nWho?,"SELECT" 1,concert\n', "cannot be read after line 1: "),
        ("train.csv", "question,query,db_id\nZoë?,SELECT 1,concert\n".encode("latin-1"), "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(folder, name, content, reason):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    text = refusal(folder)
    assert f"{name} {reason}" in text
    assert len(text.splitlines()) <= 4


def test_a_folder_without_train_file_is_told_what_it_needs(folder):
    write(folder / "dev.json", [NAMES])
    text = refusal(folder)
    assert "has no train_spider.json, train.json, train.jsonl or train.csv" in text
    assert "fields question, query, db_id" in text


# data_source


def test_data_source_may_be_a_folder_by_its_path(folder):
    write(folder / "train.json", [NAMES, COUNT])
    assert spider.load(str(folder)).name == "mine"


@pytest.mark.parametrize("name", ["spyder", "no/such/folder", "pyproject.toml"])
def test_a_data_source_that_is_nothing_is_refused_with_what_there_is(name):
    with pytest.raises(BadData, match=f"data_source='{name}' is neither 'spider' nor 'sample' nor a folder"):
        spider.load(name)


# The checksum


def test_the_checksum_changes_with_examples_and_with_databases(tmp_path):
    first = spider.load_folder(make_spider(tmp_path / "a"))
    same = spider.load_folder(make_spider(tmp_path / "b"))
    make_spider(tmp_path / "c")
    make_database(tmp_path / "c" / "database" / "pets" / "pets.sqlite", "INSERT INTO pet VALUES ('Tom')")
    other_rows = spider.load_folder(tmp_path / "c")
    make_spider(tmp_path / "d")
    write(tmp_path / "d" / "train_spider.json", [COUNT])
    other_example = spider.load_folder(tmp_path / "d")

    assert first.sha256 == same.sha256
    assert len({first.sha256, other_rows.sha256, other_example.sha256}) == 3


# Spider, from a folder or downloaded


def test_spider_dir_is_used_where_it_is_set(plain_machine, tmp_path, monkeypatch):
    monkeypatch.setenv("SPIDER_DIR", str(make_spider(tmp_path)))
    monkeypatch.setattr(spider, "SOURCES", ())

    dataset = spider.load("spider")

    assert (dataset.name, len(dataset.train), len(dataset.dev)) == ("Spider", 1, 2)
    assert "not checked" in dataset.note, "whoever reads scores must know that these may not be the release's bytes"


def test_spider_dir_may_be_relative_to_the_repository(plain_machine, tmp_path, monkeypatch):
    make_spider(tmp_path / "spider")
    monkeypatch.setattr(spider.machine, "ROOT", tmp_path)
    monkeypatch.setenv("SPIDER_DIR", "spider")
    assert len(spider.load("spider").dev) == 2


def test_a_spider_dir_without_spider_is_an_error_never_the_sample(plain_machine, tmp_path, monkeypatch):
    monkeypatch.setenv("SPIDER_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(BadData, match="nowhere has no train_spider"):
        spider.load("spider")


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Keep the test output clean."""


@contextmanager
def serving(folder):
    """A web server for the files of a folder; its address."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.fixture
def release(plain_machine, tmp_path, monkeypatch):
    """A small archive with the release's one top folder, and an empty cache. The path of the archive."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    made = make_spider(tmp_path / "made")
    archive = tmp_path / "served" / "spider.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(made.rglob("*")):
            file.write(path, f"spider/{path.relative_to(made)}")
    return archive


def source(name, address, archive):
    """The promise that an address delivers an archive."""
    content = archive.read_bytes()
    return Source(name=name, url=f"{address}", sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def test_spider_is_downloaded_once_and_then_needs_no_network(release, tmp_path, monkeypatch):
    with serving(release.parent) as address:
        monkeypatch.setattr(spider, "SOURCES", (source("mirror", f"{address}/spider.zip", release),))
        first = spider.load("spider")
    second = spider.load("spider")  # the server is gone

    assert (first.name, first.note, len(first.train), len(first.dev)) == ("Spider", "", 1, 2)
    assert second == first
    assert second.sha256 == first.sha256
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["spider"], "the archive is not kept beside its content"


def test_the_next_source_is_asked_where_one_fails(release, monkeypatch):
    with serving(release.parent) as address:
        sources = [source(name, f"{address}/{file}", release) for name, file in (("gone", "no.zip"), ("there", "spider.zip"))]
        monkeypatch.setattr(spider, "SOURCES", tuple(sources))
        assert len(spider.load("spider").dev) == 2


def test_when_no_source_delivers_each_is_named_with_its_reason(release, monkeypatch):
    with serving(release.parent) as address:
        pass  # from now on nobody listens there
    with serving(release.parent) as listening:
        sources = (source("mirror A", f"{address}/spider.zip", release), source("mirror B", f"{listening}/no.zip", release))
        monkeypatch.setattr(spider, "SOURCES", sources)
        with pytest.raises(DownloadError) as failed:
            spider.load("spider")

    assert "mirror A: connection refused" in str(failed.value)
    assert "mirror B: HTTP 404" in str(failed.value)


def test_an_archive_without_spider_is_named_with_what_to_do(release, monkeypatch, tmp_path):
    with zipfile.ZipFile(release, "w") as file:
        file.writestr("spider/README.txt", "moved")
    with serving(release.parent) as address:
        monkeypatch.setattr(spider, "SOURCES", (source("mirror", f"{address}/spider.zip", release),))
        with pytest.raises(BadData, match=r"has no dev\.json: delete that folder and run again"):
            spider.load("spider")


def test_the_release_is_asked_for_by_its_published_checksums():
    """From public records: Hugging Face's listing of xlangai/spider, and the newer package on Google Drive."""
    published = {
        99_736_136: "5ddff97bb1d421282c593e8d30ce0ce107270f4dd4a21d60eba4bf287d5956b1",
        205_800_266: "00636695dabed6b5f4b8328a16b13e069a2f16591d5efcce57660669c85b121b",
    }
    assert [source.size for source in spider.SOURCES] == [99_736_136, 205_800_266, 205_800_266]
    assert all(published[source.size] == source.sha256 for source in spider.SOURCES)


# Real Spider


@pytest.fixture(scope="module")
def real():
    return spider.load("spider")


@pytest.mark.spider
def test_real_spider_has_its_published_size(real):
    assert (len(real.train), len(real.dev)) == (7_000, 1_034)
    assert list(real.counts().loc["databases"]) == [140, 20]


@pytest.mark.spider
def test_real_spider_asks_dev_questions_about_unseen_databases_only(real):
    assert {e.db_id for e in real.train}.isdisjoint(e.db_id for e in real.dev)
    assert not any(e.seen for e in real.dev)


@pytest.mark.spider
def test_real_spider_has_its_published_hardness(real):
    # Yu et al., EMNLP 2018: dev has 248 easy, 446 medium, 174 hard and 166 extra hard questions.
    assert list(real.counts()["dev"])[:4] == [248, 446, 174, 166]


@pytest.mark.spider
def test_real_spider_from_a_folder_is_said_not_to_be_checked(real):
    assert real.name == "Spider"
    assert "not checked to be the release's bytes" in real.note


@pytest.mark.spider
def test_the_questions_whose_data_differs_are_known(real):
    golds = [(example.query, example.db_id) for example in real.dev]
    assert spider.differing(golds, real.databases) == [459, 460, 469, 470, 471, 472, 479, 480]


@pytest.mark.spider
def test_real_spider_brings_its_schemas(real, spider_dir):
    assert set(real.databases) <= set(real.tables)
    assert real.tables == layout.read_tables(spider_dir / "tables.json")
