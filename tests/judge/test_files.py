"""Files of gold queries and of predictions: read in any usual form, refused with the place."""

import json
import sqlite3
from contextlib import closing

import pytest
from conftest import AGES, written
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.databases import layout
from helpers.databases.sql_text import extract_sql
from helpers.judge.files import FIELDS, Gold, clean, read_gold, read_lines, read_predictions

scraps = st.sampled_from(
    [
        "SELECT",
        "a",
        "FROM t",
        "WITH x AS (",
        ")",
        "```",
        "```sql",
        ";",
        "\n",
        "\n\n",
        "--",
        "/*",
        "*/",
        "'",
        '"',
        "\t",
        "db_id",
        " ",
    ]
)


# Predictions as they are judged


@settings(max_examples=300, deadline=None)
@given(st.lists(scraps, max_size=14).map(" ".join) | st.text(max_size=40))
def test_cleaning_a_clean_prediction_changes_nothing(answer):
    assert clean(clean(answer)) == clean(answer)


def test_cleaning_leaves_the_gold_queries_of_the_sample_as_they_are(sample):
    examples = (*sample.train, *sample.dev)
    changed = [one for one in examples if clean(one.query) != one.query]
    for one in changed:
        with closing(sqlite3.connect(sample.databases[one.db_id])) as connection:
            assert connection.execute(clean(one.query)).fetchall() == connection.execute(one.query).fetchall(), one.query
    assert len(changed) < len(examples) / 10


@pytest.mark.parametrize(
    ("prediction", "sql"),
    [
        pytest.param(f"```sql\n{AGES}\n```", AGES, id="a fence"),
        pytest.param(f"```sql {AGES} ```", AGES, id="a fence on one line"),
        pytest.param(f"The ages:\n```\n{AGES};\n```\nThat is all.", AGES, id="a fence in prose"),
        pytest.param(f"{AGES};", AGES, id="a semicolon"),
        pytest.param(f"{AGES}; This lists the ages.", AGES, id="prose after a semicolon"),
        pytest.param(f"{AGES}\n\nThis lists the ages.", AGES, id="prose after a blank line"),
        pytest.param("SELECT age -- of each\nFROM singer", AGES, id="a comment"),
        pytest.param(f"{AGES}\tconcert", AGES, id="a tab and the db_id"),
        pytest.param(f"  {AGES} \tconcert\r", AGES, id="a tab and the db_id, with white space"),
        pytest.param("DELETE FROM singer\tconcert", "DELETE FROM singer", id="a tab and the db_id after anything"),
        pytest.param(f"INSERT INTO singer {AGES}", f"INSERT INTO singer {AGES}", id="a SELECT that belongs to an INSERT"),
        pytest.param(f"The ages: {AGES}", f"The ages: {AGES}", id="prose in front, without a fence"),
        pytest.param(f"EXPLAIN {AGES}", f"EXPLAIN {AGES}", id="EXPLAIN"),
        pytest.param(f"{AGES} WHERE name = 'concert'", f"{AGES} WHERE name = 'concert'", id="the db_id as a value"),
        pytest.param("", "", id="nothing"),
        pytest.param("```\nI do not know.\n```", "", id="a fence without SQL"),
    ],
)
def test_a_prediction_is_judged_without_what_stands_around_it_and_stays_what_it_is(prediction, sql):
    assert clean(prediction, "concert") == sql


# Files of gold queries

GOLD = [(AGES, "concert"), ("SELECT name FROM singer WHERE name = 'Zoë, the \"1st\"'", "concert")]


def as_csv(text):
    return '"{}"'.format(text.replace('"', '""'))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dev.json", json.dumps([{"question": "?", "query": sql, "db_id": db_id} for sql, db_id in GOLD])),
        ("sql.json", json.dumps([{"question": "?", "sql": sql, "db_id": db_id} for sql, db_id in GOLD])),
        ("bom.json", "\ufeff" + json.dumps([{"query": sql, "db_id": db_id} for sql, db_id in GOLD], ensure_ascii=False)),
        ("dev.jsonl", "\n".join(json.dumps({"query": sql, "db_id": db_id}) for sql, db_id in GOLD)),
        ("dev.csv", "question,query,db_id\r\n" + "".join(f"?,{as_csv(sql)},{db_id}\r\n" for sql, db_id in GOLD)),
        ("dev_gold.sql", "".join(f"{sql}\t{db_id}\n" for sql, db_id in GOLD)),
        ("no_last_line_end.txt", "\n".join(f"{sql}\t{db_id}" for sql, db_id in GOLD)),
        ("windows.txt", "\ufeff" + "".join(f"{sql} \t {db_id}\r\n" for sql, db_id in GOLD)),
    ],
)
def test_gold_is_read_from_spiders_json_and_from_official_text(tmp_path, name, text):
    golds = read_gold(written(tmp_path / name, text))
    assert [(one.query, one.db_id) for one in golds] == GOLD


def test_a_tab_within_official_sql_stays_in_it(tmp_path):
    gold = written(tmp_path / "gold.txt", "SELECT\tage FROM singer\tconcert\n")
    assert read_gold(gold) == [Gold(query="SELECT\tage FROM singer", db_id="concert", position="line 1")]


@pytest.mark.parametrize(
    ("name", "text", "places"),
    [
        ("gold.txt", f"{AGES}\tconcert\n" * 2, ["line 1", "line 2"]),
        ("gold.jsonl", "\n" + json.dumps({"query": AGES, "db_id": "concert"}), ["line 2"]),
        ("gold.csv", f"query,db_id\n{AGES},concert\n", ["line 2"]),
        ("gold.json", json.dumps([{"query": AGES, "db_id": "concert"}] * 2), ["entry 0", "entry 1"]),
    ],
)
def test_gold_knows_where_it_stands_in_its_file(tmp_path, name, text, places):
    assert [one.position for one in read_gold(written(tmp_path / name, text))] == places


@pytest.mark.parametrize("end", ["\n\n", "\n \n\t\n", "\r\n\r\n"])
def test_blank_lines_at_the_end_of_official_text_are_no_questions(tmp_path, end):
    golds = read_gold(written(tmp_path / "gold.txt", f"{AGES}\tconcert{end}"))
    assert [(one.query, one.db_id) for one in golds] == [(AGES, "concert")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gold.txt", f"{AGES}\tconcert\n{AGES} concert\n", r"gold\.txt, line 2: expected SQL, a tab and a db_id, found 'SELECT"),
        ("gold.txt", f"{AGES}\tconcert\n\n{AGES}\tconcert\n", "line 2"),
        ("gold.txt", f"{AGES}\t \n", "line 1"),
        ("gold.txt", " \tconcert\n", "line 1"),
        ("gold.json", json.dumps([{"query": AGES, "db_id": "concert"}, {"query": AGES}]), r"gold\.json, entry 1: no db_id"),
        ("gold.json", json.dumps([{"query": " ", "db_id": "concert"}]), "entry 0: no query"),
        ("gold.json", json.dumps([{"query": 5, "db_id": "concert"}]), "entry 0: no query"),
        ("gold.jsonl", json.dumps({"db_id": "concert"}), "line 1: no query"),
        ("gold.json", "[{", "cannot be read"),
        ("gold.json", "{}", "no examples"),
        ("gold.csv", "query,db_id\nSELECT 1,\n", "line 2: no db_id"),
    ],
)
def test_bad_gold_is_refused_with_its_place(tmp_path, name, text, message):
    with pytest.raises(layout.BadData, match=message):
        read_gold(written(tmp_path / name, text))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("\n", [""]),
        ("a\nb\n", ["a", "b"]),
        ("a\nb", ["a", "b"]),
        ("a\n\n\n", ["a", "", ""]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("\ufeffa\n", ["a"]),
        ("a\u2028b\x0cc\n", ["a\u2028b\x0cc"]),
    ],
)
def test_a_line_ends_at_a_line_end_and_nowhere_else(tmp_path, text, lines):
    assert read_lines(written(tmp_path / "pred.txt", text)) == lines


def test_text_that_cannot_be_read_is_bad_data(tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"SELECT '\xe9'\n")
    for name in ("latin.txt", "missing.txt"):
        with pytest.raises(layout.BadData, match=f"{name} cannot be read"):
            read_lines(tmp_path / name)


# Files of predictions


@pytest.fixture
def read(tmp_path):
    """The predictions in a file of some content; what is not text becomes JSON."""

    def read_content(name, content, **options):
        text = content if isinstance(content, str) else json.dumps(content)
        return read_predictions(written(tmp_path / name, text), **options)

    return read_content


def test_predictions_of_a_text_file_are_its_lines_empty_ones_too(read):
    assert read("pred.sql", f" {AGES} \r\n\n\tSELECT 'é'\n\n") == [AGES, "", "SELECT 'é'", ""]


def test_a_json_list_of_strings_is_a_list_of_predictions(read):
    assert read("pred.json", [f" {AGES}\n", "", None]) == [AGES, "", ""]


@pytest.mark.parametrize("name", FIELDS)
def test_an_object_has_its_prediction_under_any_of_the_known_names(read, name):
    rows = [{"db_id": "concert", name: AGES}, {name: None}]
    assert read("pred.json", rows) == [AGES, ""]
    assert read("pred.jsonl", "\n".join(map(json.dumps, rows))) == [AGES, ""]


def test_of_several_known_names_the_first_one_counts(read):
    assert read("pred.json", [{name: name for name in reversed(FIELDS)}]) == [FIELDS[0]]


def test_a_field_that_is_named_is_the_one_that_counts(read):
    assert read("pred.json", [{"sql": "SELECT 1", "answer": AGES}], field="answer") == [AGES]


def test_jsonl_may_hold_strings_nulls_objects_and_blank_lines(read):
    assert read("pred.jsonl", f'"{AGES}"\n\nnull\n{{"pred": "SELECT 1"}}\n\n') == [AGES, "", "SELECT 1"]


@pytest.mark.parametrize(
    "answer", [f"{AGES}\n\nThis lists the ages.", "SELECT age -- of each\nFROM singer", f"```sql\n{AGES}\n```\nSo."]
)
def test_an_answer_of_several_lines_in_json_is_cleaned_as_it_was_written(read, answer):
    (found,) = read("pred.json", [answer])
    assert clean(found) == AGES


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("pred.json", [AGES, 5], r"pred\.json, entry 1: expected SQL as text, found '5'", id="a number"),
        pytest.param("pred.json", [[AGES]], "entry 0: expected SQL as text", id="a list in the list"),
        pytest.param("pred.json", [{"sql": ["SELECT"]}], "entry 0: expected SQL as text", id="a list in a field"),
        pytest.param(
            "pred.json", [{"sql": AGES}, {"SQL": AGES}], "entry 1: no field prediction or .* or sql, only SQL", id="another name"
        ),
        pytest.param("pred.json", [{}], "entry 0: no field .*, only none", id="an empty object"),
        pytest.param("pred.jsonl", '"SELECT 1"\n\n{"a": 1}', "line 3: no field", id="another name in JSONL"),
        pytest.param("pred.jsonl", '"SELECT 1"\nSELECT 2', "line 2, column 1", id="no JSON in JSONL"),
        pytest.param("pred.json", f'["{AGES}"', r"pred\.json cannot be read", id="JSON that is cut off"),
        pytest.param("pred.json", AGES, "cannot be read", id="text by the name of JSON"),
        pytest.param("pred.json", "7", "cannot be read", id="a number alone"),
        pytest.param("pred.json", "[" * 100_000, "cannot be read", id="JSON nested too deeply"),
    ],
)
def test_bad_predictions_are_refused_with_their_place(read, name, content, message):
    with pytest.raises(layout.BadData, match=message):
        read(name, content)


@pytest.mark.parametrize("content", [{"0": AGES, "1": AGES}, '"SELECT 1"'], ids=["an object", "a string"])
def test_json_that_is_no_list_is_refused(read, content):
    """An object's keys, or a string's letters, would be judged as predictions."""
    with pytest.raises(layout.BadData, match="list"):
        read("pred.json", content)


def test_a_field_that_is_missing_is_named_with_its_entry(read):
    with pytest.raises(layout.BadData, match="entry 1: no field answer, only sql"):
        read("pred.json", [{"answer": AGES}, {"sql": AGES}], field="answer")


def test_the_first_field_that_is_not_null_is_taken(read):
    assert read("pred.json", [{"prediction": None, "sql": AGES}, {"pred": None}]) == [AGES, ""]


@pytest.mark.parametrize(
    ("answer", "sql"),
    [
        ("```sql\n-- all singers\nSELECT name FROM singer\n```", "SELECT name FROM singer"),
        ("/* first */ SELECT 1", "SELECT 1"),
        ("```python\nrun('SELECT 5')\n```\n```sql\nSELECT 6\n```", "SELECT 6"),
        ('WITH "a b" AS (SELECT 1) SELECT * FROM "a b"', 'WITH "a b" AS (SELECT 1) SELECT * FROM "a b"'),
        ("WITH a AS NOT MATERIALIZED (SELECT 1) SELECT * FROM a", "WITH a AS NOT MATERIALIZED (SELECT 1) SELECT * FROM a"),
        ("SELECT `x;y`, [a;b] FROM t; and so on", "SELECT `x;y`, [a;b] FROM t"),
    ],
)
def test_comments_fences_and_quoted_names_are_understood(answer, sql):
    assert extract_sql(answer) == sql
