"""What leaves by print: nothing in it commands a terminal, and JSON loses nothing."""

import ast
import json
import unicodedata

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from helpers.run import say

DANGEROUS = ["\x1b[2J", "\x9b31m", "\r", "\b", "\u202e", "\u2066", "\u200f", "\ufeff", "\x00", "\u2028", "\U000e0041"]


@given(st.text())
def test_no_sign_is_left_that_does_something(text):
    shown = say.printable(text)
    assert len(shown) == len(text)
    assert all(unicodedata.category(sign) not in say.HIDDEN or sign in say.KEPT + say.JOINERS for sign in shown)


@pytest.mark.parametrize("text", DANGEROUS)
def test_escape_codes_and_bidi_signs_are_taken_out(text):
    assert text[0] not in say.printable(f"a{text}b")


@pytest.mark.parametrize("text", ["Äpfel, naïve — 日本語", "👩‍👩‍👧 می‌خواهم", "a\tb\nc", "12\u00a0km"])
def test_ordinary_text_stays_as_it_is(text):
    assert say.printable(text) == text


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_json_is_plain_and_says_the_same(text):
    shown = say.as_json({"a": text})
    assert say.printable(shown) == shown
    assert json.loads(shown) == {"a": text}


def test_nothing_else_in_the_package_prints():
    for path in (ROOT / "helpers").rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        prints = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
        assert not prints or path.name == "say.py", path
