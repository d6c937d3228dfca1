"""Scores that say how sure they are: intervals, paired differences with a test, and groups of questions."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.judge.scores import PLAIN, failures, features, flipped, mcnemar, paired_difference, score, summary, wilson_interval
from helpers.judge.verdicts import NO_ROWS, TIED, WRONG_ON_A_COPY, Verdict


def verdicts(*correct, hardness="easy"):
    """Verdicts on questions that were answered right (1) or wrong (0), by both measures."""
    outcomes = ["wrong result", "correct"]
    return [Verdict(exec=one, exact=one, hardness=hardness, outcome=outcomes[one]) for one in correct]


ON_A_COPY = Verdict(exec=0, exact=0, hardness="hard", outcome=WRONG_ON_A_COPY, error="on concert_2.sqlite")


# Intervals and differences


@pytest.mark.parametrize(
    ("correct", "total", "interval"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_wilson_interval_agrees_with_the_published_examples(correct, total, interval):
    # 95 %: Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    assert wilson_interval(correct, total) == pytest.approx(interval, abs=5e-5)


@settings(deadline=None)
@given(counts=st.integers(1, 10_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_wilson_interval_holds_the_share_keeps_a_width_and_narrows_with_more_questions(counts):
    correct, total = counts
    low, high = wilson_interval(correct, total)
    assert 0 <= low <= correct / total + 1e-12 and correct / total - 1e-12 <= high <= 1
    more_low, more_high = wilson_interval(4 * correct, 4 * total)
    assert 0 < more_high - more_low < high - low


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (-1, 5), (6, 5), (0, -1)])
def test_counts_that_no_sample_can_have_are_refused(correct, total):
    with pytest.raises(ValueError, match=f"got correct={correct}, total={total}"):
        wilson_interval(correct, total)


def test_no_verdicts_have_no_score():
    with pytest.raises(ValueError):
        score([])


pairs = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=400)


@settings(deadline=None, max_examples=60)
@given(pairs=pairs, seed=st.integers(0, 5))
def test_the_interval_of_a_paired_difference_holds_the_difference(pairs, seed):
    base, tuned = (verdicts(*ones) for ones in zip(*pairs, strict=True))
    found = paired_difference(base, tuned, seed=seed)
    assert found["low"] <= found["difference"] + 1e-9 and found["difference"] <= found["high"] + 1e-9
    assert found["difference"] == pytest.approx(score(tuned)["ex"] - score(base)["ex"])
    assert found["gained"] == pairs.count((0, 1)) and found["lost"] == pairs.count((1, 0))


@pytest.mark.parametrize("answers", [(1, 0, 1), (0,), (1,) * 50])
def test_a_system_does_not_differ_from_itself(answers):
    found = paired_difference(verdicts(*answers), verdicts(*answers))
    assert found == {"difference": 0, "low": 0, "high": 0, "gained": 0, "lost": 0, "p_value": 1}


def test_the_interval_of_a_paired_difference_is_that_of_the_normal_approximation_for_many_questions():
    # 70 gained, 30 lost of 1,000: 4 points; the gains' standard deviation is sqrt(0.1 - 0.04^2) = 0.3137, so 4 ± 1.96 x 0.992.
    base, tuned = verdicts(*[0] * 70, *[1] * 30, *[1] * 900), verdicts(*[1] * 70, *[0] * 30, *[1] * 900)
    found = paired_difference(base, tuned)
    assert (found["low"], found["high"]) == pytest.approx((2.06, 5.94), abs=0.15)


def test_a_paired_difference_is_the_same_every_time_and_moves_with_its_seed():
    base, tuned = verdicts(*[0, 1] * 200), verdicts(*[1, 1, 0, 1] * 100)
    assert paired_difference(base, tuned) == paired_difference(base, tuned, seed=0)
    assert len({paired_difference(base, tuned, seed=seed)["low"] for seed in range(5)}) > 1


@pytest.mark.parametrize(("base", "tuned"), [((1, 0), (1,)), ((), ())])
def test_a_paired_difference_needs_both_verdicts_on_each_question(base, tuned):
    with pytest.raises(ValueError, match=f"got {len(base)} and {len(tuned)}"):
        paired_difference(verdicts(*base), verdicts(*tuned))


@pytest.mark.parametrize(
    ("gained", "lost", "p_value"),
    [(9, 1, 0.021484375), (3, 1, 0.625), (5, 0, 0.0625), (10, 2, 158 / 4096), (1, 0, 1), (0, 0, 1)],
)
def test_mcnemars_test_agrees_with_the_sums_by_hand(gained, lost, p_value):
    # (9, 1): 2 x (1 + 10) / 1,024, as tables of the two-sided sign test have it for 10 pairs
    assert mcnemar(gained, lost) == pytest.approx(p_value, abs=1e-12)


def test_mcnemars_test_is_that_of_the_normal_approximation_for_many_flips():
    # 300 against 240: (|60| - 1)^2 / 540 = 6.446 with Edwards's correction, and chi-squared with 1 degree of freedom gives 0.0111
    assert mcnemar(300, 240) == pytest.approx(0.0111, abs=2e-4)


@settings(deadline=None)
@given(gained=st.integers(0, 300), lost=st.integers(0, 300))
def test_mcnemars_test_does_not_ask_which_system_came_first(gained, lost):
    assert 0 < mcnemar(gained, lost) == mcnemar(lost, gained) <= 1
    assert mcnemar(gained, gained) == 1
    assert mcnemar(gained + lost + 1, lost) <= mcnemar(gained + lost, lost), "the more uneven, the less likely"


def test_thousands_of_flips_are_no_trouble():
    assert 0 <= mcnemar(5_000, 100) < 1e-300


@settings(deadline=None, max_examples=60)
@given(pairs=pairs)
def test_flipped_questions_are_those_that_are_gained_and_lost(pairs):
    base, tuned = (verdicts(*ones) for ones in zip(*pairs, strict=True))
    gained, lost = flipped(base, tuned)
    assert gained == [place for place, pair in enumerate(pairs) if pair == (0, 1)]
    assert lost == [place for place, pair in enumerate(pairs) if pair == (1, 0)]
    paired = paired_difference(base, tuned)
    assert (paired["gained"], paired["lost"], paired["p_value"]) == (len(gained), len(lost), mcnemar(len(gained), len(lost)))


# Summaries and groups


def test_a_summary_has_the_fields_of_a_record_in_percent():
    some = [*verdicts(1, 1, 0), *verdicts(0, hardness="extra"), Verdict(exec=0, exact=1, hardness="extra", outcome="timeout")]
    found = summary(some)
    low, high = wilson_interval(2, 5)

    assert list(found) == ["questions", "ex", "ex_low", "ex_high", "em", "by_hardness", "outcomes", "weak_questions"]
    assert (found["questions"], found["ex"], found["em"]) == (5, 40.0, 60.0)
    assert (found["ex_low"], found["ex_high"]) == pytest.approx((100 * low, 100 * high), abs=0.005)
    assert found["outcomes"] == {"correct": 2, "wrong result": 2, "timeout": 1}
    assert list(found["by_hardness"]) == ["easy", "extra"], "levels without questions have no score"
    assert found["by_hardness"]["easy"]["questions"] == 3 and found["by_hardness"]["easy"]["ex"] == 66.6667
    assert set(found["by_hardness"]["extra"]) == {"questions", "ex", "ex_low", "ex_high", "em"}
    assert json.loads(json.dumps(found)) == found


def test_failures_show_each_kind_before_a_second_of_one():
    outcomes = ["wrong result", "correct", "wrong result", "timeout", "wrong result", "empty"]
    some = [Verdict(exec=int(one == "correct"), exact=0, hardness="easy", outcome=one) for one in outcomes]
    assert failures(some, limit=4) == [0, 3, 5, 2]
    assert failures(some, limit=99) == [0, 3, 5, 2, 4]
    assert failures(verdicts(1, 1)) == []


def test_em_is_the_share_of_exact_matches_whatever_their_results():
    some = [Verdict(exec=one % 2, exact=int(one < 3), hardness="easy", outcome="correct") for one in range(4)]
    assert (score(some)["ex"], score(some)["em"]) == (50, 75)
    assert summary(some)["by_hardness"]["easy"]["em"] == 75


def test_a_summary_has_ex_on_each_database_itself_and_on_its_copies():
    some = [*verdicts(1, 1, 0), ON_A_COPY]
    found = summary(some)
    assert (found["ex"], found["ex_on_copies"]) == (75, 50)
    assert found["by_hardness"]["hard"]["ex"] == 100, "levels are on each database alone as well"
    assert found["outcomes"] == {"correct": 2, "wrong result": 1, WRONG_ON_A_COPY: 1}
    assert "ex_on_copies" not in summary(verdicts(1, 0)), "where no copy changes anything there is no second figure"


def test_a_summary_has_the_score_without_questions_whose_data_differs():
    found = summary(verdicts(1, 0, 0, 1), differing=[1, 3])
    assert (found["questions"], found["ex"], found["ex_without_differing"]) == (4, 50, 50)
    assert summary([*verdicts(1, 0), ON_A_COPY], differing=[1])["ex_without_differing"] == 100
    assert "ex_without_differing" not in summary(verdicts(1, 0))


def test_a_summary_counts_weak_questions_by_their_weakness():
    notes = [NO_ROWS, None, TIED, NO_ROWS]
    some = [Verdict(exec=1, exact=1, hardness="easy", outcome="correct", note=note) for note in notes]
    assert summary(some)["weak_questions"] == {NO_ROWS: 2, TIED: 1}


@pytest.mark.parametrize(
    ("gold", "expected"),
    [
        ("SELECT name FROM singer WHERE age > 20 ORDER BY age LIMIT 3", [PLAIN]),
        ("SELECT a.x FROM a JOIN b ON a.id = b.id", ["join"]),
        ("SELECT a.x FROM a, b WHERE a.id = b.id", ["join"]),
        ("SELECT age, count(*) FROM singer GROUP BY age", ["group"]),
        ("SELECT name FROM singer WHERE age > (SELECT avg(age) FROM singer)", ["nested"]),
        ("SELECT count(*) FROM (SELECT DISTINCT age FROM singer)", ["nested"]),
        ("SELECT name FROM a UNION SELECT name FROM b", ["set operation"]),
        ("SELECT name FROM a EXCEPT SELECT name FROM b JOIN c ON b.id = c.id GROUP BY name", ["join", "group", "set operation"]),
        ("SELECT FROM WHERE", ["not read"]),
    ],
)
def test_features_are_what_a_query_has(gold, expected):
    assert features(gold) == expected
