"""What other words for the same questions do to the answers: python -m tools.wordings RUN.

Two rules reword the dev questions of a run: columns and tables that gold needs get another name than the schema's (synonyms),
or a column is not named before its value (left out). The tuned model answers what has changed, in the run's own way (an ensemble
with all its members); EX before and after stand in evaluation/wordings.json. Gold is only used to see which names matter.

Source: Gan et al., "Towards Robustness of Text-to-SQL Models against Synonym Substitution" (Spider-Syn), ACL 2021; Deng et al.,
"Structure-Grounded Pretraining for Text-to-SQL" (Spider-Realistic), NAACL 2021. Their questions are written by people.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlglot import exp

from helpers import (
    answers,
    augment,
    ensemble,
    environment,
    evaluation,
    execution,
    generation,
    models,
    prompts,
    runs,
    scores,
    target,
)
from helpers.extra import Answers
from helpers.parsing import parse
from helpers.spider import DataSet, Example
from helpers.views import View
from helpers.words import pieces, stem_set

FILE = "evaluation/wordings.json"
EXAMPLES = 5
# Words that names are made of, and others that people use for them, in the singular.
SYNONYMS = dict(
    pair.split("/")
    for pair in (
        "/ type/kind kind/sort country/nation city/town state/province street/road address/whereabouts "
        "population/populace continent/landmass district/borough region/territory airport/airfield airline/carrier "
        "flight/connection owner/proprietor language/tongue template/pattern document/file paragraph/passage "
        "description/explanation grade/mark rank/position ranking/standing result/outcome match/game player/competitor "
        "winner/victor singer/vocalist song/tune concert/show stadium/arena capacity/size album/record band/group "
        "museum/gallery visitor/guest ship/vessel battle/fight death/casualty injury/wound cartoon/animation "
        "channel/station series/show episode/part rating/score writer/author author/writer director/filmmaker "
        "nationality/citizenship citizenship/nationality hometown/birthplace phone/telephone email/mail gender/sex "
        "sex/gender earnings/income income/earnings profit/gain revenue/turnover budget/funds manager/boss company/firm "
        "industry/sector headquarters/base share/stock money/cash bonus/premium horsepower/power maker/manufacturer "
        "model/make vote/ballot contestant/participant building/house room/chamber apartment/flat restaurant/diner "
        "dish/meal movie/film film/movie actor/performer book/volume publisher/press journal/periodical doctor/physician "
        "treatment/therapy dog/hound pet/animal teacher/instructor student/pupil course/class employee/worker "
        "department/division customer/client product/item order/purchase store/shop shop/store car/automobile salary/pay "
        "price/cost cost/price amount/sum location/place title/heading date/day weight/mass height/stature length/extent "
        "distance/range speed/velocity river/stream mountain/peak semester/term degree/qualification club/society "
        "team/squad coach/trainer member/participant event/occasion school/academy college/university university/college "
        "faculty/staff professor/lecturer advisor/mentor surface/ground area/extent quantity/number status/condition"
    ).split()
)
VALUE = re.compile(r".*[^\W\d].*|\d{4}")  # without its column, a value that is no such word or year would say nothing
LINK = r"\s+(?:(?:is|are|was|of|as|named|called|equal to)\s+)?"
QUOTE = "\"'“‘`"


def with_synonyms(example: Example, view: View) -> str | None:
    """The question with other words for the names that gold needs; None if it has none of them, or no other words are known."""
    tables, columns = target.needed(example.query, view.names)
    taken = {word for label in view.names.labels.values() for word in stem_set(label)}
    question = example.question
    for place in sorted({*((table, "") for table in tables), *columns}):
        label = view.names.labels[place]
        parts = pieces(label)
        others = [SYNONYMS.get(part, SYNONYMS.get(part.removesuffix("s"), part)) for part in parts]
        new = [other for other, part in zip(others, parts, strict=True) if other != part]
        name = augment.phrase(label)
        if not new or taken & {word for one in new for word in stem_set(one)} or len(name.findall(question)) != 1:
            continue
        question = name.sub(lambda found, others=others: augment.plural_as(" ".join(others), found), question)
    return question if question != example.question else None


def with_columns_left_out(example: Example, view: View) -> str | None:
    """The question without the names of columns that stand right before a value of gold; None if there is none."""
    tree = parse(example.query)
    texts = {one.name.lower() for one in tree.find_all(exp.Literal) if VALUE.fullmatch(one.name)} if tree else set()
    question = example.question
    for table, column in sorted(target.needed(example.query, view.names)[1]):
        name = augment.phrase(view.names.labels[table, column])
        if view.names.labels[table, column].endswith(" by"):  # "directed by" is the whole link to the value
            continue
        before = re.compile(rf"(?:\bwhose\s+)?(?:\bthe\s+)?{name.pattern}{LINK}(?=[{QUOTE}]?(\w[^{QUOTE}?.,]*))")
        found = before.search(question)
        if found and found[found.lastindex].lower().startswith(tuple(texts)):
            with_word = "with " if found[0].startswith("whose") else ""
            question = question[: found.start()] + with_word + question[found.end() :]
    return question if question != example.question else None


RULES = {"synonyms": with_synonyms, "left out": with_columns_left_out}


def reworded(examples: Sequence[Example], views: Sequence[View], rule: Any) -> dict[int, str]:
    """The questions that a rule changes, by their places."""
    found = {}
    for place, (example, view) in enumerate(zip(examples, views, strict=True)):
        try:
            question = rule(example, view)
        except target.Outside:
            continue
        if question:
            found[place] = question
    return found


def measure(run: runs.Run) -> dict[str, Any]:
    """EX on the questions that each rule changes, as they were and reworded."""
    settings = models.to_answer(run.config())
    dataset = prompts.load_dataset(run, settings)
    examples, _ = prompts.read_dev(run, settings)
    views = prompts.views_of(examples, dataset, settings)
    before = [row["tuned"]["sql"] for row in run.read_jsonl("evaluation/verdicts.jsonl")]
    limits, made = execution.Limits(seconds=settings.query_timeout), {}
    asked = {name: reworded(examples, views, rule) for name, rule in RULES.items()}
    to_answer = {name: changed for name, changed in asked.items() if changed}
    found = [answered(one, examples, dataset, to_answer) for one in (run, *ensemble.members(run, settings))]
    for name, changed in asked.items():
        if not changed:
            made[name] = {"questions": 0}
            continue
        golds = [(examples[place].query, examples[place].db_id) for place in changed]
        pooled = answers.pool([one[name] for one in found])
        sql = answers.chosen(pooled, [views[place] for place in changed], settings, progress=name)
        old, new = (
            evaluation.judge_all(golds, some, dataset.databases, dataset.tables, limits=limits, progress=f"judging, {name}")
            for some in ([before[place] for place in changed], sql)
        )
        made[name] = {
            "questions": len(changed),
            "ex_as_they_were": scores.score(old)["ex"],
            "ex_reworded": scores.score(new)["ex"],
            "difference": scores.paired_difference(old, new),
            "examples": [
                {"was": examples[place].question, "is": changed[place], "right": [was.exec, now.exec]}
                for place, was, now in list(zip(changed, old, new, strict=True))[:EXAMPLES]
            ],
        }
    return {"rules": made, **runs.machine()}


def answered(
    run: runs.Run, examples: Sequence[Example], dataset: DataSet, asked: Mapping[str, Mapping[int, str]]
) -> dict[str, Answers]:
    """What a run answers to the reworded questions of each rule, by its own settings and weighed.

    Args:
        asked: of each rule, question by place.
    """
    settings = models.to_answer(run.config())
    views = prompts.views_of(examples, dataset, settings)
    model, tokenizer = models.load_trained(settings, run / "adapter")
    answers.attach(model, run, settings)
    made = {}
    for name, changed in asked.items():
        seen, questions = [views[place] for place in changed], list(changed.values())
        messages = [view.message(question) for question, view in zip(questions, seen, strict=True)]
        found = generation.search(
            model,
            tokenizer,
            [prompts.prompt_ids(tokenizer, message, settings.date_string) for message in messages],
            count=settings.candidates,
            max_new_tokens=settings.max_new_tokens,
            batch_size=settings.per_device_eval_batch_size,
            checkers=answers.checkers(model, tokenizer, seen, settings),
            progress=f"{run.path.name}, {name}",
        )
        made[name] = answers.weighed(model, tokenizer, found, questions, seen, settings)
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.wordings", description=__doc__)
    parser.add_argument("run_dir", metavar="RUN")
    run = runs.Run(environment.resolve(parser.parse_args().run_dir))
    run.require("evaluate", "tools.wordings")
    made = measure(run)
    run.write_json(FILE, made)
    for name, one in made["rules"].items():
        print(name, {key: value for key, value in one.items() if key != "examples"})
