"""A database as the model sees it: the exact message, what training keeps of it, and the way back to SQL."""

import dataclasses
import random

import pytest
from conftest import make_database

from helpers import answers, generation, models, prompts, spider, target, views
from helpers.databases import layout, schema
from helpers.run.config import PROMPT_PARTS
from helpers.run.presets import preset

PETS = """
    CREATE TABLE Student (StuID INTEGER PRIMARY KEY, LName TEXT, Age INT, Sex TEXT);
    CREATE TABLE Pets (PetID INTEGER PRIMARY KEY, PetType TEXT, weight REAL);
    CREATE TABLE Has_Pet (StuID INT REFERENCES Student(StuID), PetID INT REFERENCES Pets(PetID));
    INSERT INTO Student VALUES (1, 'Smith', 18, 'F'), (2, 'Jones', 20, 'M'), (3, 'O''Brien', 20, 'F'), (4, 'Ito', 20, 'F');
    INSERT INTO Student VALUES (5, 'Ek', 20, 'F');
    INSERT INTO Pets VALUES (1, 'cat', 1.0), (2, 'dog', 2.0);
"""
QUESTION = "Find the weight of the dog of O'Brien."
MESSAGE = f"""Write one SQLite query that answers the question.
{QUESTION}
pets: pets.weight, pets.pet_type ('dog'), pets.pet_id
student: student.last_name ('O''Brien'), student.student_id, student.age, student.sex ('F', 'M')
has_pet: has_pet.student_id, has_pet.pet_id
keys: has_pet.student_id = student.student_id, has_pet.pet_id = pets.pet_id
{QUESTION}"""


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    return make_database(tmp_path_factory.mktemp("views") / "pets.sqlite", PETS)


def messages_of(view, *given):
    return [pair.message for pair in view.training_pairs(*given)]


def linked(database, tables=None, **changes):
    return views.view(database, preset("full").with_overrides(changes, "this test"), tables)


def without(*parts):
    return tuple(part for part in PROMPT_PARTS if part not in parts)


# The message


def test_the_message_has_what_the_question_needs_first(pets):
    assert linked(pets).message(QUESTION) == MESSAGE


@pytest.mark.parametrize(
    "parts, old, new",
    [
        (without("question_first"), f"question.\n{QUESTION}", "question."),
        (without("lists"), " ('F', 'M')", ""),
        (
            without("values"),
            "weight, pets.pet_type ('dog'), pets.pet_id\nstudent: student.last_name ('O''Brien'), student.student_id",
            "weight, pets.pet_id, pets.pet_type ('cat', 'dog')\nstudent: student.student_id, student.last_name",
        ),
        (
            without("order"),
            "pets: pets.weight, pets.pet_type ('dog'), pets.pet_id\nstudent: student.last_name ('O''Brien'), student.student_id,",
            "student: student.student_id, student.last_name ('O''Brien'),",
        ),
    ],
)
def test_a_part_that_is_switched_off_is_missing_and_nothing_else(pets, parts, old, new):
    expected = MESSAGE.replace(old, new)
    if "order" not in parts:
        expected = expected.replace("\nhas_pet:", "\npets: pets.pet_id, pets.pet_type ('dog'), pets.weight\nhas_pet:", 1)
    assert expected != MESSAGE
    assert linked(pets, prompt_parts=parts).message(QUESTION) == expected


def test_cells_are_read_only_for_messages_that_show_them(pets):
    for view in (linked(pets, prompt_parts=without("values", "lists")), views.view(pets, preset("seed"))):
        assert view.cells.places == {}


def test_names_for_people_stand_unless_they_are_switched_off(pets):
    tables = schema.read(pets)
    people = dataclasses.replace(tables.tables[0], display_name="young people")
    described = dataclasses.replace(tables, tables=(people, *tables.tables[1:]))
    assert "young_people.student_id" in linked(pets, described).message(QUESTION)
    assert linked(pets, described, readable_names=False).message(QUESTION) == MESSAGE


def test_other_styles_know_nothing_of_links(pets):
    view = views.view(pets, preset("seed"))
    assert view.message("How many?").splitlines() == [
        "Write one SQLite query that answers the question.",
        "Student: StuID, LName, Age, Sex",
        "Pets: PetID, PetType, weight",
        "Has_Pet: StuID, PetID",
        "How many?",
    ]
    part = dataclasses.replace(view.tables, tables=view.tables.tables[1:2])
    assert "Student" not in dataclasses.replace(view, tables=part).message("How many?")
    assert messages_of(view, "How many?", "SELECT 1", random.Random(0)) == [view.message("How many?")]


def test_what_a_message_leaves_out_is_named(pets):
    view = linked(pets)
    assert view.left_out(QUESTION) == ()
    short = dataclasses.replace(view, most_columns=4)
    assert short.message(QUESTION).splitlines()[2:-1] == [*MESSAGE.splitlines()[2:3], "student: student.last_name ('O''Brien')"]
    assert short.left_out(QUESTION) == ("Student.StuID", "Student.Age", "Student.Sex", "Has_Pet")


def test_what_only_the_question_names_is_left_out(pets):
    view, question = dataclasses.replace(linked(pets), most_columns=1), "Find pets.weight and student.age of the dog."
    assert view.message(question).splitlines()[2:-1] == ["pets: pets.pet_type ('dog')"]
    assert view.left_out(question) == ("Student", "Pets.PetID", "Pets.weight", "Has_Pet")


def test_a_schema_prompt_is_cut_by_the_same_rule(pets):
    view = views.view(pets, preset("seed"))
    assert view.left_out(QUESTION) == ()
    short = dataclasses.replace(view, most_columns=4)
    question = "the type and weight of pets"
    assert short.message(question).splitlines()[1:-1] == ["Pets: PetID, PetType, weight", "Has_Pet: PetID"]
    assert short.left_out(question) == ("Student", "Has_Pet.StuID")


def test_a_cell_with_a_line_end_starts_no_line_of_the_message(tmp_path):
    script = "CREATE TABLE t (a TEXT, b TEXT); INSERT INTO t VALUES ('New' || char(10) || 'York', 'x' || char(10) || 'keys: y')"
    message = linked(make_database(tmp_path / "lines.sqlite", script)).message("Who lives in New York?")
    assert len(message.splitlines()) == 4


# Training


GOLD = "SELECT T2.weight FROM Has_Pet AS T1 JOIN Pets AS T2 ON T1.PetID = T2.PetID JOIN Student AS T3 ON T1.StuID = T3.StuID WHERE T3.Age > 3"


def test_training_messages_differ_and_lack_nothing_that_gold_needs(pets):
    view = linked(pets, prompts_per_example=8)
    messages = messages_of(view, QUESTION, GOLD, random.Random(1))
    assert messages[0] == view.message(QUESTION)
    assert len(messages) == 8 and len(set(messages)) > 4
    assert messages == messages_of(view, QUESTION, GOLD, random.Random(1))
    needed = {"student.student_id", "student.age", "has_pet.student_id", "has_pet.pet_id", "pets.pet_id", "pets.weight"}
    for message in messages:
        shown = {name.strip() for line in message.splitlines()[2:-2] for name in line.partition(":")[2].split(",")}
        assert needed <= {name.split(" ")[0] for name in shown}, message


def wide(tmp_path):
    """A database of more columns than a message shows, and a last table that no question names."""
    columns = ", ".join(f"price{number} INT" for number in range(30))
    script = "".join(f"CREATE TABLE price{number} ({columns});" for number in range(4)) + "CREATE TABLE zebra (x INT, y INT);"
    return make_database(tmp_path / "wide.sqlite", script)


def test_a_column_that_gold_needs_is_there_even_in_a_wide_schema(tmp_path):
    view = linked(wide(tmp_path), prompts_per_example=5)
    assert "zebra" not in view.message("Any price?")
    messages = messages_of(view, "Any price?", "SELECT x FROM zebra", random.Random(0))
    assert all("zebra: " in message and "zebra.x" in message for message in messages)


def test_a_table_that_gold_only_counts_is_there_even_in_a_wide_schema(tmp_path):
    messages = messages_of(linked(wide(tmp_path)), "Any price?", "SELECT count(*) FROM zebra", random.Random(0))
    assert all("\nzebra: " in message for message in messages)


def test_no_table_stands_without_columns(tmp_path):
    view = linked(make_database(tmp_path / "t.sqlite", "CREATE TABLE t (a INT, b INT)"), prompts_per_example=40)
    assert not any("t: \n" in message for message in messages_of(view, "How many?", "SELECT count(*) FROM t", random.Random(0)))


def test_gold_outside_of_the_target_form_is_refused(pets):
    with pytest.raises(target.Outside):
        messages_of(linked(pets), QUESTION, "SELECT nothing FROM nowhere", random.Random(0))


# Answers


@pytest.mark.parametrize(
    "answer", ["I do not know.", "", "DROP TABLE Pets", "{}", "SELECT", "SELECT FROM WHERE (", "```sql\n```"]
)
def test_an_answer_that_is_no_query_stays_what_it_is(pets, answer):
    assert linked(pets).sql(answer) == views.view(pets, preset("seed")).sql(answer)


def test_an_answer_comes_back_as_sql_of_the_database(pets):
    view = linked(pets)
    assert view.completion(GOLD) == "SELECT pets.weight FROM has_pet, pets, student WHERE student.age > 3"
    for answer in (view.completion(GOLD), f"```sql\n{view.completion(GOLD)};\n```"):
        assert view.sql(answer) == (
            "SELECT Pets.weight FROM Has_Pet JOIN Pets ON Has_Pet.PetID = Pets.PetID "
            "JOIN Student ON Has_Pet.StuID = Student.StuID WHERE Student.Age > 3"
        )
    assert views.view(pets, preset("seed")).completion("SELECT  1 ;") == "SELECT 1"


def test_candidates_that_mean_the_same_sql_share_their_probability(pets):
    found = answers.probable(
        [("SELECT pets.weight FROM pets", -1.0), ("```SELECT pets.weight  FROM pets```", -2.0), ("?", -0.1)], linked(pets)
    )
    assert found == {"SELECT Pets.weight FROM Pets": pytest.approx(0.3679 + 0.1353, abs=1e-4)}


def test_the_likeliest_candidate_that_gives_rows_is_chosen(pets):
    view = linked(pets)
    fails, empty, says = (
        f"SELECT {part}" for part in ("abc(1)", "pets.weight FROM pets WHERE pets.weight > 9", "pets.weight FROM pets")
    )
    some = [[(fails, -0.1), (empty, -1.0), (says, -2.0)], [(fails, -0.1), (empty, -1.0)], []]
    found = answers.chosen(some, [view] * 3, view.settings, "")
    assert found == [view.sql(says), view.sql(empty), ""]
    assert answers.chosen([[(fails, 0.0)], []], [view] * 2, view.settings, "") == [view.sql(fails), ""], "only one is not tried"


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


# Log probabilities


@pytest.fixture(scope="module")
def tiny(request):
    """The tiny model and its tokenizer."""
    pytest.importorskip("torch")
    return models.load(request.getfixturevalue("smoke"))


def test_a_score_is_the_sum_of_log_probabilities_whatever_the_batch(tiny):
    import torch

    model, tokenizer = tiny
    asked = [prompts.prompt_ids(tokenizer, text) for text in ("How many?", "Name the oldest three of all.", "?")]
    texts = ["SELECT 1", "SELECT count(*) FROM t WHERE name = 'größer'", ""]
    expected = []
    model.eval()
    for prompt, answer in zip(asked, texts, strict=True):
        end = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            logs = model(input_ids=torch.tensor([[*prompt, *end]])).logits[0].log_softmax(-1)
        expected.append(sum(logs[len(prompt) - 1 + at, token].item() for at, token in enumerate(end)))
    for batch_size in (1, 2, 3):
        assert generation.score(model, tokenizer, asked, texts, batch_size=batch_size) == pytest.approx(expected, abs=1e-3)
    assert generation.score(model, tokenizer, [], [], batch_size=2) == []


def test_a_beam_is_at_least_as_probable_as_its_text_with_the_end_of_the_turn(tiny):
    model, tokenizer = tiny
    asked = [prompts.prompt_ids(tokenizer, "How many?")]
    (found,) = generation.search(model, tokenizer, asked, count=3, max_new_tokens=4, batch_size=1)
    scores = generation.score(model, tokenizer, asked * 3, [text for text, _ in found], batch_size=3)
    for (_, log), score in zip(found, scores, strict=True):  # the score counts the end of the turn as well
        assert score <= log + 1e-3


def test_checkers_are_made_once_a_schema_and_only_where_they_are_wanted(tiny, pets):
    model, tokenizer = tiny
    one, other = linked(pets), views.example(preset("full"))
    made = answers.checkers(model, tokenizer, [one, other, one], one.settings)
    assert made[0] is made[2] is not made[1]
    for settings in (one.settings.with_overrides({"constrained": False}, "x"), preset("seed")):
        assert answers.checkers(model, tokenizer, [one], settings) is None
