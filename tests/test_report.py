"""Tables and plots: what a reader sees."""

import matplotlib
import pytest

from helpers import execution, report
from helpers.evaluation import Verdict
from helpers.prompts import Row
from helpers.spider import Example

matplotlib.use("Agg")


def verdicts(pattern, level="easy"):
    return [Verdict(exec=int(mark), hardness=level, outcome="correct" if mark == "1" else "wrong result") for mark in pattern]


def test_the_score_table_has_a_row_a_level_that_occurs_and_one_for_all():
    table = report.score_table(verdicts("1100") + verdicts("0", "hard"))
    assert list(table.index) == ["easy", "hard", "all"]
    assert list(table["examples"]) == [4, 1, 5]
    assert table.loc["easy", "EX %"] == 50
    assert (table["low %"] <= table["EX %"] + 1e-9).all() and (table["EX %"] <= table["high %"] + 1e-9).all()


@pytest.mark.parametrize(
    ("difference", "low", "high", "says"),
    [(10, 2, 18, "training helped"), (-10, -18, -2, "training hurt"), (10, -2, 22, "do not show which is better")],
)
def test_the_sentence_says_what_the_interval_means(difference, low, high, says):
    paired = {"difference": difference, "low": low, "high": high, "gained": 3, "lost": 1}
    assert says in report.difference_sentence(paired)


def test_scores_can_be_plotted_where_none_or_all_are_right():
    axes = report.plot_scores(report.score_table(verdicts("1" * 9)), report.score_table(verdicts("0" * 28)[:9]), "title")
    assert axes.get_xlim() == (0, 100)
    assert "n=9" in axes.get_yticklabels()[0].get_text()


def test_zero_of_twenty_eight_is_plotted():  # once its rounding error was refused by matplotlib
    table = report.score_table(verdicts("0" * 28))
    report.plot_scores(table, table, "title")


def test_the_mask_colours_the_completion_alone():
    class Words:
        def decode(self, ids):
            return ["<user>", "how many", "<b>", "SELECT 1"][ids[0]]

    markup = report.mask_markup(Row(input_ids=[0, 1, 2, 3], completion_mask=[0, 0, 0, 1]), Words())
    assert markup.count("background:#fff3b0") == 1
    assert "&lt;b&gt;" in markup, "text from data is escaped"


def test_side_by_side_escapes_what_models_write():
    example = Example(question="<script>", query="SELECT 1", db_id="d", hardness="easy")
    ran = execution.Result(outcome="ok", columns=("a",), rows=((1,),) * 7)
    failed = execution.Result(outcome="syntax error", error="near <x>")
    markup = report.side_by_side(example, ("SELECT 1", ran), ("<img src=x>", failed), ("", failed))
    assert "<script>" not in markup and "<img" not in markup
    assert "7 rows in all" in markup and "(no SQL)" in markup


def test_lengths_mark_the_limit_even_where_no_example_reaches_it():
    axes = report.plot_lengths([10, 20, 30], 100)
    assert axes.get_xlim()[1] > 100


def test_the_loss_plot_shows_every_step():
    log = [{"step": step, "loss": 2 / step, "learning_rate": 0.1} for step in range(1, 41)]
    axes = report.plot_training(log)
    assert len(axes.lines[0].get_xdata()) == 40


def test_outcomes_count_both_systems():
    table = report.outcome_table(verdicts("000"), verdicts("110"))
    assert table.loc["correct"].tolist() == [0, 2]
    assert table.loc["wrong result"].tolist() == [3, 1]
    report.plot_outcomes(table)


def test_a_plot_is_kept_as_a_small_picture(tmp_path):
    report.save_plot(report.plot_lengths([1, 2, 3], 10), tmp_path / "plots" / "lengths.png")
    picture = tmp_path / "plots" / "lengths.png"
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size < 100_000
    assert [path.name for path in picture.parent.iterdir()] == ["lengths.png"]
