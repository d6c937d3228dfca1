"""Decoding that names only what the schema has: gold passes, nothing else is named, and every answer is whole."""

import re

import numpy as np
import pytest
import sqlglot
from conftest import make_table, varied
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import models
from helpers.databases.schema import ForeignKey, Schema
from helpers.decoding import generate, grammar
from helpers.decoding.grammar import Grammar, GrammarLogitsProcessor
from helpers.prompts import ir_grammar, message
from helpers.prompts.from_ir import to_sql
from helpers.prompts.names import name_map
from helpers.prompts.to_ir import NotExpressible, to_ir
from helpers.prompts.tokens import prompt_ids
from helpers.sources import spider

torch = pytest.importorskip("torch")


PETS = name_map(
    Schema(
        db_id="pets",
        tables=(
            make_table("student", "student_id", "first_name", "age"),
            make_table("has_pet", "student_id", "pet_id"),
            make_table("pets", "pet_id", "pet_type", "weight"),
        ),
        foreign_keys=(ForeignKey(table="has_pet", columns=("pet_id",), to_table="pets", to_columns=("pet_id",)),),
    )
)


@pytest.fixture(scope="module")
def tiny(smoke):
    """The tiny model, its weights such that answers differ, and its tokenizer."""
    return varied(smoke)


@pytest.fixture(scope="module")
def tiny_grammar(tiny):
    """The grammar of PETS for the tiny model's tokenizer, and the tokenizer."""
    model, tokenizer = tiny
    return Grammar(PETS, grammar.vocabulary(tokenizer, frozenset(generate.stop_tokens(model, tokenizer)))), tokenizer


@pytest.fixture(scope="module")
def real_grammar(smollm_files):
    """The same for SmolLM2's."""
    tokenizer = models.load_tokenizer(smollm_files)
    return Grammar(PETS, grammar.vocabulary(tokenizer, frozenset([tokenizer.eos_token_id]))), tokenizer


def after(rules, ids):
    """A matcher behind some tokens; None where one of them is forbidden."""
    matcher = rules.matcher()
    if matcher.validate_tokens(ids) < len(ids):
        return None
    matcher.consume_tokens(ids)
    return matcher


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def allowed(matcher):
    """The tokens that may come next."""
    bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
    return np.flatnonzero(np.unpackbits(bits, bitorder="little")).tolist()


def is_beginning(rules, tokenizer, text):
    return after(rules, ids(tokenizer, text)) is not None


def is_whole(rules, tokenizer, text):
    matcher = after(rules, ids(tokenizer, text))
    return matcher is not None and matcher.is_accepting()


WHOLE = [
    "SELECT COUNT(*) FROM pets",
    "SELECT pets.weight FROM has_pet, pets WHERE has_pet.student_id = 3",
    "SELECT student.first_name FROM student WHERE student.age > 20.5 ORDER BY student.age DESC LIMIT 1",
    "SELECT pets.pet_type, AVG(pets.weight) FROM pets GROUP BY pets.pet_type HAVING COUNT(*) >= 2",
    "SELECT t1.age FROM student AS t1 JOIN student AS t2 ON t1.age = t2.age WHERE t2.first_name = 'Ada'",
    "SELECT student.age FROM student WHERE student.student_id IN (SELECT has_pet.student_id FROM has_pet)",
    "SELECT AVG(c1) FROM (SELECT COUNT(*) AS c1 FROM pets GROUP BY pets.pet_type) AS t1",
    "SELECT pets.weight FROM pets WHERE pets.pet_type = 'O''Brien (a, b) SELECT nothing.at_all' UNION SELECT student.age FROM student",
    "SELECT pets.weight / 2 FROM pets WHERE pets.pet_type != 'größer'",
    "SELECT student.* FROM student",
    "SELECT (SELECT COUNT(*) FROM student), (SELECT COUNT(*) FROM pets)",
    "SELECT EXISTS(SELECT student.age FROM student WHERE student.age > 30)",
    "SELECT ROUND(CAST((SELECT COUNT(*) FROM pets) AS REAL) / (SELECT COUNT(*) FROM student), 2)",
]


@pytest.mark.parametrize("text", WHOLE)
@pytest.mark.parametrize("which", ["tiny", "real"])
def test_a_query_of_the_target_form_passes_token_by_token(request, which, text):
    rules, tokenizer = request.getfixturevalue(f"{which}_grammar")
    assert is_whole(rules, tokenizer, text)
    assert to_sql(text, PETS)


@pytest.mark.parametrize("kind", ["REAL", "INTEGER"])
def test_a_type_may_be_written_behind_as(tiny_grammar, kind):
    assert is_whole(*tiny_grammar, f"SELECT CAST(pets.weight AS {kind}) FROM pets")


@pytest.mark.parametrize(
    "text",
    [
        "DROP",
        "Here is",
        " SELECT",
        "SELECT pets.age ",
        "SELECT nothing ",
        "SELECT first_name ",
        "SELECT t7.age ",
        "SELECT t1.nothing ",
        "SELECT student.first_name FROM students ",
        "SELECT student.first_name FROM WHERE",
        "SELECT student.first_name FROM student, WHERE",
        "SELECT student.first_name FROM student JOIN ON",
        "SELECT student.first_name FROM student pets ",
        "SELECT student.first_name FROM 5 ",
        "SELECT 5student ",
        "SELECT 1.2.3 ",
        "SELECT COUNT(*))",
        "SELECT student.age, FROM student, )",
        "SELECT student.age; DROP",
        "SELECT `student`",
        'SELECT "student"',
        "SELECT student.age -- no\n",
        "SELECT student.first_name\nFROM",
    ],
)
def test_what_can_begin_no_query_on_this_schema_is_refused(tiny_grammar, text):
    assert not is_beginning(*tiny_grammar, text)


@pytest.mark.parametrize("text", ["SELECT * FROM =", "SELECT * FROM 'pets'", "SELECT * FROM *", "SELECT * FROM student JOIN ="])
def test_only_a_table_or_a_bracket_stands_behind_from_and_join(tiny_grammar, text):
    assert not is_beginning(*tiny_grammar, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SELECT",
        "SELECT student.fir",
        "SELECT COUNT(*",
        "SELECT COUNT(",
        "SELECT student.age FROM",
        "SELECT student.age FROM student WHERE",
        "SELECT student.age FROM student WHERE student.first_name = 'Ada",
        "SELECT student.age FROM student WHERE student.age >",
        "SELECT student.age FROM student WHERE student.age > 1.",
        "SELECT student.age FROM student ORDER BY",
        "SELECT student.age FROM student LIMIT",
        "SELECT student.age FROM student UNION",
        "SELECT student.age FROM student WHERE student.age IN (SELECT student.age FROM student",
        "SELECT student.age FROM student,",
    ],
)
def test_an_unfinished_query_may_go_on_but_not_end(tiny_grammar, text):
    assert is_beginning(*tiny_grammar, text)
    assert not is_whole(*tiny_grammar, text)


def test_an_endless_text_in_quotes_is_cut(tiny_grammar):
    begin = "SELECT student.age FROM student WHERE student.first_name = '"
    assert is_beginning(*tiny_grammar, begin + "a " * 40)
    assert not is_beginning(*tiny_grammar, begin + "a " * 41)


# What is written within the rules

NAME = re.compile(r"(\w+)\.(\w+|\*)")
KNOWN = set(PETS.column_of) | {(one, "*") for one in PETS.table_of}


def names_known(text):
    """Whether all that a text names outside of its quotes is there."""
    columns = {column for _, column in PETS.column_of} | set(ir_grammar.NAMED) | {"*"}
    for one, column in NAME.findall(re.sub(r"'[^']*'?", "''", text)):
        if one.isdecimal() and (column.isdecimal() or not column):
            continue
        if (one, column) not in KNOWN and not (one in ir_grammar.ALIASES and column in columns):
            return False
    return True


@settings(max_examples=40, deadline=None)
@given(chance=st.randoms(use_true_random=False))
def test_any_walk_over_allowed_tokens_makes_a_query_that_names_only_what_is_there(tiny_grammar, chance):
    rules, tokenizer = tiny_grammar
    likely = {token for text in WHOLE for token in ids(tokenizer, text)}
    matcher, written = rules.matcher(), []
    for _ in range(80):
        if matcher.is_accepting() and chance.random() < 0.3:
            break
        tokens = [token for token in allowed(matcher) if token != tokenizer.eos_token_id]
        wanted = sorted(likely.intersection(tokens))
        written.append(chance.choice(wanted if wanted and chance.random() < 0.9 else tokens))
        assert matcher.consume_token(written[-1])
    text = tokenizer.decode(written)
    if not matcher.is_accepting():
        return
    assert names_known(text), text
    assert sqlglot.parse_one(text, dialect="sqlite"), text
    assert to_sql(text, PETS)


@pytest.mark.parametrize("count", [1, 3])
def test_a_random_model_writes_only_what_is_allowed(tiny, tiny_grammar, count):
    (model, tokenizer), (rules, _) = tiny, tiny_grammar
    questions = ["How many pets?", "Which student is the oldest of all those that have a pet?", "Weight?"]
    asked = [prompt_ids(tokenizer, question) for question in questions]
    options = {"count": count, "max_new_tokens": 24}
    free = generate.generate_candidates(model, tokenizer, asked, batch_size=3, **options)
    assert not any(text.startswith("SELECT ") for some in free for text, _ in some), "the model must need its bounds"
    found = generate.generate_candidates(model, tokenizer, asked, batch_size=3, grammars=[rules] * 3, **options)
    for some in found:
        assert len(some) == count
        assert [log for _, log in some] == sorted((log for _, log in some), reverse=True)
        for text, _ in some:
            assert text.startswith("SELECT "), text
            assert names_known(text.rpartition(" ")[0]), text
    alone = [generate.generate_candidates(model, tokenizer, [one], batch_size=1, grammars=[rules], **options)[0] for one in asked]
    assert [[text for text, _ in some] for some in alone] == [[text for text, _ in some] for some in found]


def test_each_row_has_a_schema_of_its_own(tiny_grammar):
    rules, tokenizer = tiny_grammar
    other = Grammar(message.example_prompt("linked").names, rules.vocabulary)
    process, begin = GrammarLogitsProcessor([rules, other], width=1), ids(tokenizer, "SELECT")
    for length in range(len(begin) + 1):  # as `generate` asks, a token at a time
        bounded = process(torch.tensor([[5, *begin[:length]]] * 2), torch.zeros(2, len(tokenizer)))
    for row, one in zip(bounded, (rules, other), strict=True):
        assert row.isfinite().nonzero()[:, 0].tolist() == allowed(after(one, begin))


def test_the_likeliest_allowed_token_stays_and_all_others_go(tiny_grammar):
    rules, tokenizer = tiny_grammar
    process, begin = GrammarLogitsProcessor([rules], width=2), ids(tokenizer, "SELECT student.age FROM student")
    scores = torch.zeros(1, len(tokenizer) + 40)  # a model may have more places than its tokenizer has tokens
    wanted, forbidden = ids(tokenizer, " WHERE")[0], ids(tokenizer, "?")[0]
    scores[0, wanted], scores[0, forbidden], scores[0, -1] = -3.0, 9.0, 9.0
    for length in range(len(begin) + 1):
        bounded = process(torch.tensor([[5, 6, *begin[:length]]]), scores)
    assert bounded[0, wanted] == -3.0
    assert bounded.isfinite().nonzero()[:, 1].tolist() == allowed(after(rules, begin))


def test_an_answer_that_has_ended_may_only_be_filled_up(tiny_grammar):
    rules, tokenizer = tiny_grammar
    end, whole = tokenizer.eos_token_id, ids(tokenizer, "SELECT student.age FROM student")
    process = GrammarLogitsProcessor([rules], width=1)
    for length in range(len(whole) + 3):
        bounded = process(torch.tensor([[5, *[*whole, end, end][:length]]]), torch.zeros(1, len(tokenizer)))
    assert bounded.isfinite().nonzero()[:, 1].tolist() == [end]


def test_a_row_that_has_written_what_is_forbidden_can_only_end(tiny_grammar):
    rules, tokenizer = tiny_grammar
    wrong = ids(tokenizer, "DROP")
    bounded = GrammarLogitsProcessor([rules], width=1)(torch.tensor([[5, *wrong]]), torch.zeros(1, len(tokenizer)))
    assert bounded.isfinite().nonzero()[:, 1].tolist() == [tokenizer.eos_token_id]


@pytest.mark.spider
@pytest.mark.parametrize(
    ("part", "step"),
    [("dev", 5), pytest.param("dev", 1, marks=pytest.mark.parity), pytest.param("train", 1, marks=pytest.mark.parity)],
)
def test_every_gold_query_may_be_written_and_ends(spider_dir, real_grammar, part, step):
    data, (pets, tokenizer) = spider.load_folder(spider_dir), real_grammar
    named, made, refused, said = {}, {}, [], 0
    for one in getattr(data, part)[::step]:
        if one.db_id not in made:
            named[one.db_id] = name_map(data.schema_of(one.db_id))
            made[one.db_id] = Grammar(named[one.db_id], pets.vocabulary)
        try:
            text = to_ir(one.query, named[one.db_id])
        except NotExpressible:
            continue
        said += 1
        if not is_whole(made[one.db_id], tokenizer, text):
            refused.append(text)
    assert said >= 1034 // step
    assert not refused
