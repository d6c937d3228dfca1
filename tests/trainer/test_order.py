"""The order of training examples: like lengths together, the steps mixed, the same after a resumption."""

import itertools

import pytest

pytest.importorskip("trl")
from helpers.trainer.order import FullBatches, GroupedByLength

LENGTHS = [(7 * number) % 101 + 3 for number in range(1003)]


def taken(epoch, batch_size=8, seed=3):
    sampler = GroupedByLength(batch_size, LENGTHS, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def steps(order, batch_size=8):
    return [order[begin : begin + batch_size] for begin in range(0, len(order), batch_size)]


def test_every_example_comes_once():
    assert sorted(taken(0)) == list(range(len(LENGTHS)))


def test_a_step_has_examples_of_like_length():
    spread = [max(LENGTHS[at] for at in step) - min(LENGTHS[at] for at in step) for step in steps(taken(0))]
    assert sum(spread) / len(spread) < 5


def test_steps_do_not_go_from_long_to_short():
    lengths = [LENGTHS[step[0]] for step in steps(taken(0))]
    shorter = sum(after < before for before, after in itertools.pairwise(lengths))
    assert 0.3 < shorter / len(lengths) < 0.7


def test_a_step_that_is_not_full_comes_last():
    assert [len(step) for step in steps(taken(0))] == [8] * 125 + [3]


def test_an_epoch_has_an_order_of_its_own_and_keeps_it():
    assert taken(1) == taken(1) != taken(0)
    assert taken(0, seed=4) != taken(0)


@pytest.mark.parametrize("examples, step, length", [(10, 4, 12), (12, 4, 12), (3, 8, 8)])
def test_the_last_step_is_filled_up_with_the_first_examples(examples, step, length):
    order = list(FullBatches(range(examples), step))
    assert len(order) == len(FullBatches(range(examples), step)) == length
    assert order == [at % examples for at in range(length)]
