"""A database as the model sees it: the exact message, what training keeps of it, and the way back to SQL."""

import dataclasses
import random

import pytest
from conftest import make_database

from helpers.databases import schema
from helpers.prompts import values
from helpers.prompts.message import database_prompt
from helpers.prompts.names import name_map
from helpers.prompts.to_ir import NotExpressible
from helpers.run.config import PROMPT_PARTS

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


def messages_of(prompt, question, gold, seed, count=3):
    return [pair.message for pair in prompt.training_pairs(question, gold, random.Random(seed), count=count)]


def linked(database, **options):
    return database_prompt(database, "linked", **options)


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
    assert linked(pets, parts=parts).message(QUESTION) == expected


def test_cells_are_read_only_for_messages_that_show_them(pets):
    for prompt in (linked(pets, parts=without("values", "lists")), database_prompt(pets, "schema")):
        assert prompt.values == values.EMPTY


def test_names_for_people_stand_unless_they_are_switched_off(pets):
    tables = schema.read(pets)
    people = dataclasses.replace(tables.tables[0], display_name="young people")
    described = dataclasses.replace(tables, tables=(people, *tables.tables[1:]))
    assert "young_people.student_id" in linked(pets, schema=described).message(QUESTION)
    assert linked(pets, schema=described, use_display_names=False).message(QUESTION) == MESSAGE


def test_other_styles_know_nothing_of_links(pets):
    prompt = database_prompt(pets, "schema")
    assert prompt.message("How many?").splitlines() == [
        "Write one SQLite query that answers the question.",
        "Student: StuID, LName, Age, Sex",
        "Pets: PetID, PetType, weight",
        "Has_Pet: StuID, PetID",
        "How many?",
    ]
    part = dataclasses.replace(prompt.schema, tables=prompt.schema.tables[1:2])
    assert "Student" not in dataclasses.replace(prompt, schema=part, names=name_map(part)).message("How many?")
    assert messages_of(prompt, "How many?", "SELECT 1", 0) == [prompt.message("How many?")]


def test_what_a_message_leaves_out_is_named(pets):
    prompt = linked(pets)
    assert prompt.left_out(QUESTION) == ()
    short = dataclasses.replace(prompt, max_columns=4)
    assert short.message(QUESTION).splitlines()[2:-1] == [*MESSAGE.splitlines()[2:3], "student: student.last_name ('O''Brien')"]
    assert short.left_out(QUESTION) == ("Student.StuID", "Student.Age", "Student.Sex", "Has_Pet")


def test_what_only_the_question_names_is_left_out(pets):
    prompt, question = dataclasses.replace(linked(pets), max_columns=1), "Find pets.weight and student.age of the dog."
    assert prompt.message(question).splitlines()[2:-1] == ["pets: pets.pet_type ('dog')"]
    assert prompt.left_out(question) == ("Student", "Pets.PetID", "Pets.weight", "Has_Pet")


def test_a_schema_prompt_is_cut_by_the_same_rule(pets):
    prompt = database_prompt(pets, "schema")
    assert prompt.left_out(QUESTION) == ()
    short = dataclasses.replace(prompt, max_columns=4)
    question = "the type and weight of pets"
    assert short.message(question).splitlines()[1:-1] == ["Pets: PetID, PetType, weight", "Has_Pet: PetID"]
    assert short.left_out(question) == ("Student", "Has_Pet.StuID")


def test_a_cell_with_a_line_end_starts_no_line_of_the_message(tmp_path):
    script = "CREATE TABLE t (a TEXT, b TEXT); INSERT INTO t VALUES ('New' || char(10) || 'York', 'x' || char(10) || 'keys: y')"
    message = linked(make_database(tmp_path / "lines.sqlite", script)).message("Who lives in New York?")
    assert len(message.splitlines()) == 4


SINGERS = "Write one SQLite query that answers the question.\nsinger: name, age\nHow many singers are 30?"


def test_the_schema_stands_between_the_instruction_and_the_question(concert_db):
    assert database_prompt(concert_db, "schema").message("How many singers are 30?") == SINGERS


def test_a_question_alone_leaves_the_tables_to_be_guessed(concert_db):
    message = database_prompt(concert_db, "question_only").message("How many singers are 30?")
    assert message == "Write one SQLite query that answers the question.\nHow many singers are 30?"


# Training


GOLD = "SELECT T2.weight FROM Has_Pet AS T1 JOIN Pets AS T2 ON T1.PetID = T2.PetID JOIN Student AS T3 ON T1.StuID = T3.StuID WHERE T3.Age > 3"


def test_training_messages_differ_and_lack_nothing_that_gold_needs(pets):
    prompt = linked(pets)
    messages = messages_of(prompt, QUESTION, GOLD, 1, count=8)
    assert messages[0] == prompt.message(QUESTION)
    assert len(messages) == 8 and len(set(messages)) > 4
    assert messages == messages_of(prompt, QUESTION, GOLD, 1, count=8)
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
    prompt = linked(wide(tmp_path))
    assert "zebra" not in prompt.message("Any price?")
    messages = messages_of(prompt, "Any price?", "SELECT x FROM zebra", 0, count=5)
    assert all("zebra: " in message and "zebra.x" in message for message in messages)


def test_a_table_that_gold_only_counts_is_there_even_in_a_wide_schema(tmp_path):
    messages = messages_of(linked(wide(tmp_path)), "Any price?", "SELECT count(*) FROM zebra", 0)
    assert all("\nzebra: " in message for message in messages)


def test_no_table_stands_without_columns(tmp_path):
    prompt = linked(make_database(tmp_path / "t.sqlite", "CREATE TABLE t (a INT, b INT)"))
    assert not any("t: \n" in message for message in messages_of(prompt, "How many?", "SELECT count(*) FROM t", 0, count=40))


def test_gold_that_the_ir_cannot_express_is_refused(pets):
    with pytest.raises(NotExpressible):
        messages_of(linked(pets), QUESTION, "SELECT nothing FROM nowhere", 0)


# Answers


@pytest.mark.parametrize(
    "answer", ["I do not know.", "", "DROP TABLE Pets", "{}", "SELECT", "SELECT FROM WHERE (", "```sql\n```"]
)
def test_an_answer_that_is_no_query_stays_what_it_is(pets, answer):
    assert linked(pets).sql(answer) == database_prompt(pets, "schema").sql(answer)


def test_an_answer_comes_back_as_sql_of_the_database(pets):
    prompt = linked(pets)
    assert prompt.completion(GOLD) == "SELECT pets.weight FROM has_pet, pets, student WHERE student.age > 3"
    for answer in (prompt.completion(GOLD), f"```sql\n{prompt.completion(GOLD)};\n```"):
        assert prompt.sql(answer) == (
            "SELECT Pets.weight FROM Has_Pet JOIN Pets ON Has_Pet.PetID = Pets.PetID "
            "JOIN Student ON Has_Pet.StuID = Student.StuID WHERE Student.Age > 3"
        )
    assert database_prompt(pets, "schema").completion("SELECT  1 ;") == "SELECT 1"
