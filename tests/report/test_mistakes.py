"""The first part in which a query differs from gold, whatever the two call their tables."""

import pytest
from conftest import make_table
from hypothesis import given
from hypothesis import strategies as st

from helpers.databases.schema import ForeignKey, Schema
from helpers.prompts.names import name_map
from helpers.report import mistakes

PETS = name_map(
    Schema(
        db_id="pets",
        tables=(
            make_table("student", "stuid", "fname", "age"),
            make_table("has_pet", "stuid", "petid"),
            make_table("pets", "petid", "pettype", "weight"),
        ),
        foreign_keys=(
            ForeignKey(table="has_pet", columns=("stuid",), to_table="student", to_columns=("stuid",)),
            ForeignKey(table="has_pet", columns=("petid",), to_table="pets", to_columns=("petid",)),
        ),
    )
)
GOLD = "SELECT T1.fname FROM student AS T1 JOIN has_pet AS T2 ON T1.stuid = T2.stuid WHERE T1.age > 20 ORDER BY T1.age LIMIT 1"


@pytest.mark.parametrize(
    ("predicted", "kind"),
    [
        (
            "select fname from student join has_pet on student.stuid = has_pet.stuid where age > 20 order by age limit 1",
            mistakes.ELSE,
        ),
        (GOLD.replace("> 20", "> 30"), "values"),
        (GOLD.replace("> 20", ">= 20"), "comparisons"),
        (GOLD.replace("LIMIT 1", "LIMIT 2"), "order and limit"),
        (GOLD.replace("ORDER BY T1.age", "ORDER BY T1.age DESC"), "order and limit"),
        (GOLD.replace("SELECT", "SELECT DISTINCT"), "DISTINCT"),
        (GOLD.replace("ORDER", "GROUP BY T1.fname ORDER"), "grouping"),
        (GOLD.replace("WHERE T1.age", "WHERE T2.petid"), "columns of conditions"),
        (GOLD.replace("SELECT T1.fname", "SELECT T1.age"), "columns selected"),
        ("SELECT fname FROM student WHERE age > 20 ORDER BY age LIMIT 1", "tables"),
        (GOLD.replace("> 20", "> (SELECT AVG(age) FROM student)"), "nesting and set operations"),
        ("SELECT fname FROM student UNION SELECT fname FROM student", "nesting and set operations"),
        ("Here is the answer", mistakes.UNREAD),
        ("", mistakes.UNREAD),
    ],
)
def test_the_first_difference_is_found(predicted, kind):
    assert mistakes.kind(GOLD, predicted, PETS) == kind


@given(st.integers(0, 10**6), st.text(st.characters(codec="ascii", exclude_characters="'\0"), max_size=8))
def test_a_query_differs_from_itself_in_nothing(number, text):
    sql = f"SELECT fname FROM student WHERE age = {number} AND fname != '{text}'"
    assert mistakes.kind(sql, sql.lower(), PETS) == mistakes.ELSE
