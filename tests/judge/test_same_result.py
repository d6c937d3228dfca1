"""Two results agree as the official evaluator's would: in any order of rows and columns, unless gold asks for one."""

import itertools
import random
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.judge.same_result import same_result


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        pytest.param([(1, "a"), (2, "b")], [(2, "b"), (1, "a")], id="rows in another order"),
        pytest.param([(1, "a"), (2, "b")], [("a", 1), ("b", 2)], id="columns in another order"),
        pytest.param([(1, 1), (2, 2)], [(2, 2), (1, 1)], id="a column twice"),
        pytest.param([(1, 2, 1), (2, 1, 2)], [(1, 1, 2), (2, 2, 1)], id="a column twice and another of its values"),
        pytest.param([(1,)], [(1.0,)], id="1 and 1.0"),
        pytest.param([(None, "a"), (1, "b")], [(1, "b"), (None, "a")], id="NULL"),
        pytest.param([], [], id="nothing"),
    ],
)
def test_these_are_the_same_result_where_order_does_not_matter(expected, found):
    assert same_result(expected, found, ordered=False)
    assert same_result(found, expected, ordered=False)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize(
    ("expected", "found"),
    [
        pytest.param([(1,), (1,)], [(1,)], id="a duplicate is missing"),
        pytest.param([(1,), (1,), (2,)], [(1,), (2,), (2,)], id="another row is the duplicate"),
        pytest.param([(1, "a"), (2, "b")], [(1, "b"), (2, "a")], id="right values in wrong rows"),
        pytest.param([(1, 1), (2, 2)], [(1, 2), (2, 1)], id="[A, A] against [A, B] of the same values"),
        pytest.param([(1, 1), (2, 2)], [(1, 5), (2, 6)], id="[A, A] against [A, B]"),
        pytest.param([(1, 1, 5), (2, 2, 6)], [(1, 5, 5), (2, 6, 6)], id="[A, A, B] against [A, B, B]"),
        pytest.param([(1,), (2,)], [(1, 1), (2, 2)], id="a column too many"),
        pytest.param([(1, 2)], [(1,)], id="a column too few"),
        pytest.param([(1,)], [("1",)], id="1 and '1'"),
        pytest.param([("a",)], [("A",)], id="a and A"),
        pytest.param([("a",)], [(b"a",)], id="text and blob"),
        pytest.param([(None,)], [(0,)], id="NULL and 0"),
        pytest.param([(None,)], [("",)], id="NULL and ''"),
        pytest.param([(None,)], [], id="NULL and nothing"),
        pytest.param([], [(1,)], id="nothing and a row"),
    ],
)
def test_these_are_different_results(expected, found, ordered):
    assert not same_result(expected, found, ordered=ordered)
    assert not same_result(found, expected, ordered=ordered)


def test_where_order_matters_rows_must_stand_in_it_and_columns_need_not():
    expected = [(1, "a"), (2, "b"), (2, "c")]
    assert same_result(expected, [("a", 1), ("b", 2), ("c", 2)], ordered=True)
    assert not same_result(expected, [(1, "a"), (2, "c"), (2, "b")], ordered=True)


def test_results_without_rows_agree_whatever_their_columns():
    """So the official evaluator has it: its SELECT that finds nobody says nothing about columns."""
    assert same_result([], [], ordered=True) and same_result([], [], ordered=False)


cells = st.sampled_from([None, 0, 1, "0", "1", "x", b"x", 1.5])


def tables(most_columns, values=cells, most_rows=6):
    """Lists of rows of equal width."""
    widths = st.integers(1, most_columns)
    return widths.flatmap(lambda width: st.lists(st.tuples(*[values] * width), min_size=1, max_size=most_rows))


@settings(deadline=None, max_examples=60)
@given(rows=tables(9), randomness=st.randoms(use_true_random=False))
def test_a_shuffled_result_is_the_same_result(rows, randomness):
    order = list(range(len(rows[0])))
    randomness.shuffle(order)
    in_order = [tuple(row[at] for at in order) for row in rows]
    shuffled = randomness.sample(in_order, len(rows))

    assert same_result(rows, shuffled, ordered=False)
    assert same_result(rows, in_order, ordered=True)


@settings(deadline=None, max_examples=60)
@given(rows=tables(6), place=st.tuples(st.integers(0), st.integers(0)), randomness=st.randoms(use_true_random=False))
def test_one_other_value_makes_another_result(rows, place, randomness):
    row, column = place[0] % len(rows), place[1] % len(rows[0])
    changed = [list(one) for one in rows]
    changed[row][column] = "new"
    randomness.shuffle(changed)
    assert not same_result(rows, [tuple(one) for one in changed], ordered=False)


def bits(width):
    """Three rows of zeros and ones."""
    return st.lists(st.tuples(*[st.integers(0, 1)] * width), min_size=3, max_size=3)


@settings(deadline=None, max_examples=300)
@given(pair=st.integers(1, 4).flatmap(lambda width: st.tuples(bits(width), bits(width))))
def test_results_agree_exactly_if_some_order_of_columns_gives_the_same_bag_of_rows(pair):
    expected, found = pair
    orders = itertools.permutations(range(len(found[0])))
    same_bag = any(Counter(tuple(row[at] for at in order) for row in found) == Counter(expected) for order in orders)
    assert same_result(expected, found, ordered=False) == same_bag


def rows_of(*columns):
    return list(zip(*columns, strict=True))


def test_many_columns_of_equal_values_are_compared_in_a_moment():
    """Twelve columns can stand in 479,001,600 orders."""
    shuffle = random.Random(0).sample
    first = list(range(2_000))
    second, third = shuffle(first, len(first)), shuffle(first, len(first))
    begin = time.monotonic()
    assert same_result([(1,) * 12] * 500, [(1,) * 12] * 500, ordered=False)
    assert not same_result(rows_of(*[first] * 11, second), rows_of(*[first] * 11, third), ordered=False)
    assert time.monotonic() - begin < 5


def test_the_order_of_many_different_columns_of_the_same_values_is_found():
    columns = [random.Random(seed).sample(range(20), 20) for seed in range(10)]
    assert same_result(rows_of(*columns), rows_of(*columns[::-1]), ordered=False)
