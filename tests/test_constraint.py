"""Decoding that names only what the schema has: gold passes, nothing else is named, and every answer is whole."""

import re

import pytest
from conftest import make_table, varied
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import constraint, generation, models, names, prompts, spider, target, views
from helpers.config import preset
from helpers.constraint import START, Checker, Constraint
from helpers.schema import ForeignKey, Schema

torch = pytest.importorskip("torch")


PETS = names.name(
    Schema(
        db_id="pets",
        tables=(
            make_table("student", "student_id", "first_name", "age"),
            make_table("has_pet", "student_id", "pet_id"),
            make_table("pets", "pet_id", "pet_type", "weight"),
        ),
        foreign_keys=(ForeignKey(table="has_pet", column="pet_id", to_table="pets", to_column="pet_id"),),
    )
)


@pytest.fixture(scope="module")
def tiny(smoke):
    """The tiny model, its weights such that answers differ, and its tokenizer."""
    return varied(smoke)


@pytest.fixture(scope="module")
def checker(tiny):
    model, tokenizer = tiny
    return Checker(PETS, constraint.vocabulary(tokenizer, generation.stop_tokens(model, tokenizer)))


@pytest.fixture(scope="module")
def smollm(smollm_files):
    tokenizer = models.load_tokenizer(smollm_files)
    return constraint.vocabulary(tokenizer, [tokenizer.eos_token_id])


def after(checker, ids):
    """The state after some tokens; None where one of them is forbidden."""
    state = START
    for token in ids:
        state = checker.allowed(state, token)
        if state is None:
            return None
    return state


def ids(checker, text):
    return checker.vocabulary.tokenizer(text, add_special_tokens=False)["input_ids"]


def is_beginning(checker, text):
    return after(checker, ids(checker, text)) is not None


def is_whole(checker, text):
    end = next(iter(checker.vocabulary.ends))
    return after(checker, [*ids(checker, text), end]) is not None


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
]


@pytest.mark.parametrize("text", WHOLE)
def test_a_query_of_the_target_form_passes_token_by_token(checker, text):
    assert is_whole(checker, text)
    assert target.to_sql(text, PETS)


@pytest.mark.parametrize("text", WHOLE)
def test_a_query_of_the_target_form_passes_with_the_real_tokenizer(smollm, text):
    assert is_whole(Checker(PETS, smollm), text)


@pytest.mark.parametrize("kind", ["REAL", "INTEGER"])
@pytest.mark.parametrize("which", ["tiny", "real"])
def test_a_type_may_be_written_behind_as(request, checker, which, kind):
    checker = checker if which == "tiny" else Checker(PETS, request.getfixturevalue("smollm"))
    assert is_whole(checker, f"SELECT CAST(pets.weight AS {kind}) FROM pets")


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
def test_what_can_begin_no_query_on_this_schema_is_refused(checker, text):
    assert not is_beginning(checker, text)


@pytest.mark.parametrize("text", ["SELECT * FROM =", "SELECT * FROM 'pets'", "SELECT * FROM *", "SELECT * FROM student JOIN ="])
def test_only_a_table_or_a_bracket_stands_behind_from_and_join(checker, text):
    assert not is_beginning(checker, text)


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
def test_an_unfinished_query_may_go_on_but_not_end(checker, text):
    assert is_beginning(checker, text)
    assert not is_whole(checker, text)


def test_an_endless_text_in_quotes_is_cut(checker):
    begin = "SELECT student.age FROM student WHERE student.first_name = '"
    assert is_beginning(checker, begin + "a " * 40)
    assert not is_beginning(checker, begin + "a " * 41)


@pytest.mark.parametrize("which", ["checker", "real"])
def test_a_name_is_cut_only_where_the_tokenizer_cuts_it(request, which):
    checker = request.getfixturevalue("checker") if which == "checker" else Checker(PETS, request.getfixturevalue("smollm"))
    name, state = "student.first_name", after(checker, ids(checker, "SELECT"))
    cuts = {cut for cut in range(1, len(name)) if checker.read(state, " " + name[:cut]) is not None}
    offsets = [
        checker.vocabulary.tokenizer(before + name, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        for before in (" ", "(")
    ]
    own = {end - 1 for some in offsets for _, end in some if end - 1 < len(name)} - {0}
    shared = {len("student.") + at for at in range(len("first_name"))}  # other columns of this table are cut elsewhere
    assert own <= cuts <= own | {cut for cut in shared if name[:cut] in checker.open_words}
    assert len(cuts) < len(name) - 3, "many cuts would prove little"


def test_tokens_add_the_text_that_decoding_gives_them(smollm):
    for text in WHOLE:
        tokens = smollm.tokenizer(text, add_special_tokens=False)["input_ids"]
        if text.isascii():
            assert "".join(smollm.texts[token] for token in tokens) == text
    assert all(smollm.texts[token] == "" for token in smollm.tokenizer.all_special_ids)


# What is written within the rules

NAME = re.compile(r"(\w+)\.(\w+|\*)")
KNOWN = set(PETS.column_of) | {(one, "*") for one in PETS.table_of}


def names_known(text):
    """Whether all that a text names outside of its quotes is there."""
    columns = {column for _, column in PETS.column_of} | set(constraint.NAMED) | {"*"}
    for one, column in NAME.findall(re.sub(r"'[^']*'?", "''", text)):
        if one.isdecimal() and (column.isdecimal() or not column):
            continue
        if (one, column) not in KNOWN and not (one in constraint.ALIASES and column in columns):
            return False
    return True


@settings(max_examples=150, deadline=None)
@given(chance=st.randoms(use_true_random=False))
def test_any_walk_over_allowed_tokens_names_only_what_is_there(checker, chance):
    vocabulary = checker.vocabulary
    end = next(iter(vocabulary.ends))
    likely = sorted({token for text in WHOLE for token in ids(checker, text)})
    state, text = START, ""
    for _ in range(60):
        if checker.allowed(state, end) is not None and chance.random() < 0.3:
            break
        tokens = likely if chance.random() < 0.8 else [chance.randrange(len(vocabulary.texts)) for _ in range(200)]
        allowed = [token for token in tokens if token not in vocabulary.ends and checker.allowed(state, token) is not None]
        if not allowed:
            continue
        token = chance.choice(allowed)
        state, text = checker.allowed(state, token), text + vocabulary.texts[token]
    if checker.allowed(state, end) is None:
        return
    assert names_known(text), text
    assert text.startswith("SELECT")
    bare = re.sub(r"'[^']*'", "''", text)
    assert bare.count("'") % 2 == 0 and bare.count("(") == bare.count(")"), text
    assert "\n" not in text


def follows(checker, text):
    """Whether a text is a possible beginning, letter by letter."""
    return checker.read(START, text) is not None


@pytest.mark.parametrize("count", [1, 3])
def test_a_random_model_writes_only_what_is_allowed(tiny, checker, count):
    model, tokenizer = tiny
    questions = ["How many pets?", "Which student is the oldest of all those that have a pet?", "Weight?"]
    asked = [prompts.prompt_ids(tokenizer, question, "26 Jul 2024") for question in questions]
    options = {"count": count, "max_new_tokens": 24}
    free = generation.search(model, tokenizer, asked, batch_size=3, **options)
    assert not any(follows(checker, text) for some in free for text, _ in some), "the model must need its bounds"
    found = generation.search(model, tokenizer, asked, batch_size=3, checkers=[checker] * 3, **options)
    for some in found:
        assert len(some) == count
        assert [log for _, log in some] == sorted((log for _, log in some), reverse=True)
        for text, _ in some:
            assert follows(checker, text.rstrip("\ufffd")), text
            assert names_known(text.rpartition(" ")[0]), text
    alone = [generation.search(model, tokenizer, [one], batch_size=1, checkers=[checker], **options)[0] for one in asked]
    assert [[text for text, _ in some] for some in alone] == [[text for text, _ in some] for some in found]


def test_each_row_has_a_schema_of_its_own(tiny, checker):
    model, tokenizer = tiny
    other = Checker(views.example(preset("full")).names, checker.vocabulary)
    asked = [prompts.prompt_ids(tokenizer, "Weight?", "26 Jul 2024")] * 2
    (one,), (two,) = generation.search(model, tokenizer, asked, batch_size=2, checkers=[checker, other], max_new_tokens=24)
    assert follows(checker, one[0].rstrip("\ufffd")) and follows(other, two[0].rstrip("\ufffd"))


def test_the_likeliest_allowed_token_stays_and_all_others_go(checker):
    rules, begin = Constraint([checker], width=2), ids(checker, "SELECT student.age FROM student")
    scores = torch.zeros(1, len(checker.vocabulary.texts))
    wanted, forbidden = ids(checker, " WHERE")[0], ids(checker, "?")[0]
    scores[0, wanted], scores[0, forbidden] = 3.0, 9.0
    for length in range(len(begin) + 1):  # as `generate` asks, a token at a time
        bounded = rules(torch.tensor([[5, 6, *begin[:length]]]), scores)
    assert bounded.argmax() == wanted and bounded[0, wanted] == 3.0
    assert bounded[0, forbidden] == -torch.inf
    for token in bounded[0].isfinite().nonzero()[:, 0].tolist():
        assert after(checker, [*begin, token]) is not None


def test_an_allowed_token_is_found_even_if_it_is_the_least_likely(checker):
    scores = torch.zeros(1, len(checker.vocabulary.texts))
    start = ids(checker, "SELECT")[0]
    for token in range(scores.shape[1]):
        if checker.allowed(START, token) is not None:
            scores[0, token] = -50.0 if token != start else -40.0
    bounded = Constraint([checker], width=1)(torch.tensor([[5]]), scores)
    assert bounded.isfinite().nonzero().tolist() == [[0, start]]


@pytest.mark.spider
def test_every_gold_query_of_dev_may_be_written_and_ends(spider_dir, smollm):
    data = spider.load_folder(spider_dir)
    made, refused, said = {}, [], 0
    for one in data.dev:
        if one.db_id not in made:
            made[one.db_id] = Checker(names.name(data.schema_of(one.db_id)), smollm)
        checker = made[one.db_id]
        try:
            text = target.to_target(one.query, names.name(data.schema_of(one.db_id)))
        except target.Outside:
            continue
        said += 1
        if not is_whole(checker, text):
            refused.append(text)
    assert said > 1000
    assert refused == []
