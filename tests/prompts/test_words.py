"""Words are told alike however they are written and joined."""

import pytest

from helpers.prompts.words import split_words, stem_set


@pytest.mark.parametrize(
    "one, other",
    [
        ("singers", "Singer"),
        ("cities", "city"),
        ("PriceOfItems", "price_item"),
        ("booked", "booking"),
        ("Größe der Häuser", "HÄUSER_größe"),
    ],
)
def test_words_are_compared_without_case_endings_or_the_way_they_are_joined(one, other):
    assert stem_set(other) <= stem_set(one) | {"of"}


@pytest.mark.parametrize(
    "name, pieces",
    [
        ("home_port", ["home", "port"]),
        ("HomePort", ["home", "port"]),
        ("HTTPServerURL2", ["http", "server", "url", "2"]),
        ("Straße", ["straße"]),
    ],
)
def test_names_come_apart_where_people_put_them_together(name, pieces):
    assert split_words(name) == pieces


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("name", "names"), ("age", "ages"), ("course", "courses"), ("airline", "airlines"), ("class", "classes"),
        ("box", "boxes"), ("match", "matches"), ("dish", "dishes"), ("city", "cities"), ("singer", "singer's"),
        ("direct", "directed"), ("own", "owning"),
    ],
)  # fmt: skip
def test_a_word_and_its_plural_or_past_are_one_word(one, other):
    assert stem_set(one) <= stem_set(other)


@pytest.mark.parametrize(("one", "other"), [("address", "addres"), ("class", "clas")])
def test_a_double_s_is_no_plural(one, other):
    assert stem_set(one) != stem_set(other)
