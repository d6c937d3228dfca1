"""Tables and plots: what a reader sees."""

import matplotlib
import pytest

from helpers.databases.layout import Example
from helpers.judge.verdicts import NO_ROWS, TIED, WRONG_ON_A_COPY, Verdict
from helpers.prompts.message import database_prompt
from helpers.prompts.question import Question
from helpers.prompts.tokens import Row
from helpers.report import pages, plots, tables

matplotlib.use("Agg")


def verdicts(pattern, level="easy"):
    """Verdicts on questions that were answered right ("1") or wrong ("0"), by both measures."""
    outcomes = {"1": "correct", "0": "wrong result"}
    return [Verdict(exec=int(mark), exact=int(mark), hardness=level, outcome=outcomes[mark]) for mark in pattern]


def test_the_score_table_has_a_row_a_level_that_occurs_and_one_for_all():
    table = tables.score_table(verdicts("1100") + verdicts("0", "hard"))
    assert list(table.index) == ["easy", "hard", "all"]
    assert list(table["examples"]) == [4, 1, 5]
    assert table.loc["easy", "EX %"] == 50
    assert (table["low %"] <= table["EX %"] + 1e-9).all() and (table["EX %"] <= table["high %"] + 1e-9).all()


@pytest.mark.parametrize(
    ("base", "tuned", "points", "flips", "says"),
    [
        ("0" * 20, "1" * 10 + "0" * 10, "+50.0", "10 questions gained, 0 lost; McNemar's p = 0.002", "tuned is better"),
        ("1" * 10 + "0" * 10, "0" * 20, "-50.0", "0 questions gained, 10 lost; McNemar's p = 0.002", "tuned is worse"),
        ("0001" * 5, "1110" + "0001" * 4, "+10.0", "3 questions gained, 1 lost; McNemar's p = 0.62", "not show which is better"),
    ],
)
def test_the_sentence_says_what_the_interval_means(base, tuned, points, flips, says):
    sentence = tables.difference_sentence(verdicts(base), verdicts(tuned))
    assert sentence.startswith(f"tuned minus base: {points} points of EX, 95 % interval ")
    assert flips in sentence and sentence.endswith(says)


def test_the_sentence_calls_the_systems_by_their_names():
    sentence = tables.difference_sentence(verdicts("1" * 10), verdicts("0" * 10), ("gpt", "llama"))
    assert sentence.startswith("llama minus gpt") and sentence.endswith("llama is worse")


def test_the_sentence_counts_what_is_right_on_altered_copies_where_that_is_asked_for():
    lucky = [Verdict(exec=0, exact=0, hardness="easy", outcome=WRONG_ON_A_COPY)] * 10
    assert "-0.0" not in tables.difference_sentence(verdicts("1" * 10), lucky)
    assert tables.difference_sentence(verdicts("1" * 10), lucky).startswith("tuned minus base: +0.0")
    assert tables.difference_sentence(verdicts("1" * 10), lucky, on_copies=True).startswith("tuned minus base: -100.0")


def test_the_score_table_has_a_row_a_label_the_largest_first_and_questions_may_have_several():
    table = tables.score_table(verdicts("1100"), [["join"], ["join", "nested"], ["group"], ["join", "group"]])
    assert list(table.index) == ["join", "group", "nested", "all"]
    assert list(table["examples"]) == [3, 2, 1, 4]
    assert list(table["EX %"].round(1)) == list(table["EM %"].round(1)) == [66.7, 0, 100, 50]


def test_two_systems_stand_side_by_side_with_their_intervals():
    table = tables.compare_table(verdicts("0" * 20), verdicts("1" * 10 + "0" * 10))
    assert list(table.columns) == [
        "questions",
        *("EX % before training", "EX % after training"),
        *("EM % before training", "EM % after training"),
    ]
    assert list(table.loc["all"]) == [20, "0.0 (0.0-16.1)", "50.0 (29.9-70.1)", "0.0", "50.0"]
    assert list(table.index) == ["easy", "all"]


def test_two_systems_are_compared_by_labels_under_names_of_their_own():
    table = tables.compare_table(verdicts("10"), verdicts("11"), [["zoo"], ["concert"]], ("gpt", "llama"))
    assert list(table.columns) == ["questions", "EX % gpt", "EX % llama", "EM % gpt", "EM % llama"]
    assert set(table.index) == {"zoo", "concert", "all"}
    assert table.loc["concert", "EX % gpt"].startswith("0.0 (") and table.loc["concert", "EX % llama"].startswith("100.0 (")


def noted(note, outcome="correct"):
    return Verdict(exec=int(outcome == "correct"), exact=0, hardness="easy", outcome=outcome, note=note)


def test_weak_questions_are_told_by_their_number():
    some = [noted(None), noted(NO_ROWS), noted(TIED), noted(None, "gold does not run"), noted(NO_ROWS, "wrong result")]
    lines = tables.weak_lines(some)
    assert len(lines) == 3
    assert lines[0].startswith("1 question: gold does not run") and lines[0].endswith("(3)")
    assert lines[1] == f"2 questions: {NO_ROWS} (1, 4)"
    assert lines[2] == f"1 question: {TIED} (2)"


def test_where_no_question_is_weak_there_is_nothing_to_tell():
    assert tables.weak_lines(verdicts("1010")) == []


def test_many_weak_questions_are_counted_and_not_all_named():
    (line,) = tables.weak_lines([noted(NO_ROWS)] * 1_500)
    assert line.startswith("1,500 questions") and "11, …" in line and "12" not in line


def test_questions_about_differing_data_are_told_with_the_score_without_them():
    (line,) = tables.weak_lines(verdicts("1100"), differing=[2, 3])
    assert line.startswith("2 questions") and "(2, 3)" in line and "EX without them 100.0 (34.2-100.0)" in line


def test_what_copies_change_is_told_with_both_scores():
    some = [*verdicts("110"), noted(None, WRONG_ON_A_COPY)]
    (line,) = tables.weak_lines(some)
    assert line.startswith("1 predictions are right on the database and wrong on an altered copy of it (3)")
    assert line.endswith("EX 75.0, on altered copies as well 50.0")


def test_flipped_questions_are_shown_by_their_number():
    table = tables.flip_table([4, 1, 3], limit=2, question=list("abcde"), gold_SQL=list("ABCDE"))
    assert list(table.columns) == ["question", "gold SQL"]
    assert list(table.index) == [4, 1] and table.index.name == "question no."
    assert table.to_numpy().tolist() == [["e", "E"], ["b", "B"]]
    assert len(tables.flip_table([], question=list("abcde"))) == 0


def test_scores_can_be_plotted_where_none_or_all_are_right():
    axes = plots.plot_scores(tables.score_table(verdicts("1" * 9)), tables.score_table(verdicts("0" * 28)[:9]), "title")
    assert axes.get_xlim() == (0, 100)
    assert "n=9" in axes.get_yticklabels()[0].get_text()


def test_zero_of_twenty_eight_is_plotted():  # once its rounding error was refused by matplotlib
    table = tables.score_table(verdicts("0" * 28))
    plots.plot_scores(table, table, "title")


def test_the_mask_colours_the_completion_alone():
    class Words:
        def decode(self, ids):
            return ["<user>", "how many", "<b>", "SELECT 1"][ids[0]]

    markup = pages.mask_markup(Row(input_ids=[0, 1, 2, 3], completion_mask=[0, 0, 0, 1]), Words())
    assert markup.count("background:#fff3b0") == 1
    assert "&lt;b&gt;" in markup, "text from data is escaped"


def test_side_by_side_escapes_what_models_write(concert_db):
    gold = "SELECT age FROM singer, (SELECT 1 UNION ALL SELECT 2)"
    example = Example(question="<script>", query=gold, db_id="d", hardness="easy")
    question = Question(example.question, database_prompt(concert_db, "schema"), "", example)
    markup = pages.side_by_side(question, "<img src=x>", "")
    assert "<script>" not in markup and "<img" not in markup
    assert "6 rows in all" in markup and "(no SQL)" in markup


def test_lengths_mark_the_limit_even_where_no_example_reaches_it():
    axes = plots.plot_lengths([10, 20, 30], 100)
    assert axes.get_xlim()[1] > 100


def test_the_loss_plot_shows_every_step():
    log = [{"step": step, "loss": 2 / step, "learning_rate": 0.1} for step in range(1, 41)]
    axes = plots.plot_training(log)
    assert len(axes.lines[0].get_xdata()) == 40


def test_outcomes_count_both_systems():
    table = tables.outcome_table(verdicts("000"), verdicts("110"))
    assert table.loc["correct"].tolist() == [0, 2]
    assert table.loc["wrong result"].tolist() == [3, 1]
    plots.plot_outcomes(table)


def test_outcomes_stand_under_the_names_of_the_systems_the_second_s_most_frequent_first():
    table = tables.outcome_table(verdicts("110"), [*verdicts("00"), noted(None, "timeout")], ("gpt", "llama"))
    assert list(table.columns) == ["gpt", "llama"]
    assert table.index[0] == "wrong result"
    assert table.T.to_dict()["timeout"] == {"gpt": 0, "llama": 1} and table.loc["correct"].tolist() == [2, 0]


def test_a_plot_is_kept_as_a_small_picture(tmp_path):
    plots.save_plot(plots.plot_lengths([1, 2, 3], 10), tmp_path / "plots" / "lengths.png")
    picture = tmp_path / "plots" / "lengths.png"
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size < 100_000
    assert [path.name for path in picture.parent.iterdir()] == ["lengths.png"]


def test_kinds_of_mistake_stand_by_frequency_with_a_question_each():
    table = tables.mistakes_table({3: "values", 0: "tables", 2: "tables"}, ["a?", "b?", "c?", "d?"])
    assert table.index.tolist() == ["tables", "values"]
    assert table["wrong"].tolist() == [2, 1]
    assert table["such as"].tolist() == ["a?", "d?"]
    assert tables.mistakes_table({}, []).empty
