"""The predictions of a run: answers found, kept in the run folder, weighed, and one SQL chosen for each question."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from helpers import (
    channel,
    choice,
    constraint,
    ensemble,
    environment,
    execution,
    extra,
    generation,
    model_files,
    models,
    processes,
    prompts,
    reread,
    twin,
    verifier,
)
from helpers.config import RunConfig
from helpers.extra import Answers
from helpers.progress import tqdm
from helpers.runs import OtherConfiguration, Run
from helpers.views import View

FORMAT = 3  # of the kept answers
# What gives each of the further adapters weight.
ADAPTERS = {twin.NAME: "twin_weight", channel.NAME: "question_weight", verifier.NAME: "verifier_weight"}


def predict(
    model: Any,
    tokenizer: Any,
    messages: Sequence[str],
    settings: RunConfig,
    run: Run,
    *,
    questions: Sequence[str],
    views: Sequence[View],
    base: bool,
) -> tuple[list[str], float]:
    """One SQL prediction a message, kept in the run folder, and the seconds that the answers took, the choice among candidates
    included.

    Answers that the run folder has from the same model, settings and questions are not made again. With `num_processes` over 1
    so many are started to find them, each those to a share of the questions.

    Args:
        questions: what each message asks.
        views: the database that it is about.
        base: as before training, with the adapter switched off: greedy, one candidate, nothing forbidden.

    Raises: as `ensemble.members` and `given`, and
        processes.ProcessesFailed: one of several processes ended.
    """
    some, seconds = found(model, tokenizer, messages, settings, run, questions=questions, views=views, base=base)
    begin = time.perf_counter()
    sql = chosen(some, views, settings, progress=f"{'base' if base else 'tuned'} candidates")
    return sql, seconds + time.perf_counter() - begin


def found(
    model: Any,
    tokenizer: Any,
    messages: Sequence[str],
    settings: RunConfig,
    run: Run,
    *,
    questions: Sequence[str],
    views: Sequence[View],
    base: bool,
) -> tuple[Answers, float]:
    """The answers to each message, not yet chosen from, and the seconds that they took, those of an ensemble's other members
    included. As `predict`.

    Raises: as `predict`.
    """
    others = [] if base else [given(member, questions) for member in ensemble.members(run, settings)]
    name = "base" if base else "tuned"
    prompts_ids = [prompts.prompt_ids(tokenizer, message, settings.date_string) for message in messages]
    identity = fingerprint(prompts_ids, settings, run, base=base)
    rules = None if base else checkers(model, tokenizer, views, settings)
    if settings.num_processes > 1 and not processes.several() and not is_kept(run, name, identity):
        processes.start("answers", run, settings.num_processes)

    def search(numbers: list[int]) -> Answers:
        return generation.search(
            model,
            tokenizer,
            [prompts_ids[number] for number in numbers],
            count=1 if base else settings.candidates,
            max_new_tokens=settings.max_new_tokens,
            batch_size=settings.per_device_eval_batch_size,
            checkers=rules and [rules[number] for number in numbers],
            base=base,
            progress=f"{name} answers" if processes.is_first() else "",
        )

    kept = once(run, name, identity, len(messages), search)
    if base:
        return kept["answers"], kept["seconds"]
    some, seconds = kept["answers"], kept["seconds"]
    for name, weight, weigh in weighers(model, tokenizer, questions, views, settings):
        identity = weighed_identity(identity, name, weight, settings, run)
        kept = once(run, name, identity, len(messages), functools.partial(weigh, some), weight=weight)
        some, seconds = kept["answers"], seconds + kept["seconds"]
    return pool([some, *(answers for answers, _ in others)]), seconds + sum(its for _, its in others)


def check_members(run: Run, settings: RunConfig) -> None:
    """Refuse, before anything slow, an ensemble whose members' answers cannot be pooled with what this run will answer.

    Raises: as `ensemble.members` and `given`.
    """
    for member in ensemble.members(run, settings):
        if run.has("data"):
            given(member, questions_of(run, settings))
        else:  # it will be asked what its settings say
            kept_by(member)


def given(member: Run, questions: Sequence[str]) -> tuple[Answers, float]:
    """What another run answered to these questions, and the seconds that it took.

    Raises: as `kept_by`, and
        OtherConfiguration: it was asked others.
    """
    asked = questions_of(member, member.config())
    if asked != list(questions):
        raise OtherConfiguration(
            f"{environment.shown(member.path)}, named in ensemble_runs, was asked {len(asked):,} questions, which are not the "
            f"{len(questions):,} of this run: its data is another. Train it anew on this run's, or {ensemble.UNSET}"
        )
    return kept_by(member)


def questions_of(run: Run, settings: RunConfig) -> list[str]:
    """What a run is asked by these settings."""
    return [one.question for one in prompts.read_dev(run, settings)[0]]


def kept_by(run: Run) -> tuple[Answers, float]:
    """What a run keeps as its answers, weighed as its settings ask, and the seconds that they took.

    Raises:
        OtherConfiguration: it has not answered yet, or with other settings, prompts or adapters than it has now.
        MissingStep: it lacks an adapter that its settings give weight.
        model_files.ModelNotFound: the base model, whose tokenizer tells, cannot be had.
    """
    settings = run.config()
    tokenizer = models.load_tokenizer(model_files.find(settings.model_name))
    _, messages = prompts.read_dev(run, settings)
    ids = [prompts.prompt_ids(tokenizer, message, settings.date_string) for message in messages]
    identity, seconds = fingerprint(ids, settings, run, base=False), 0.0
    for name, weight in [("tuned", 0.0), *weights(settings)]:
        if name in ADAPTERS:
            extra.require(name, ADAPTERS[name], run)
        if name != "tuned":
            identity = weighed_identity(identity, name, weight, settings, run)
        if not is_kept(run, name, identity):
            raise OtherConfiguration(
                f"{environment.shown(run.path)} has no answers by its settings and adapters as they are now "
                f"(evaluation/{name}.json): run 05 Evaluate there first"
            )
        kept = run.read_json(f"evaluation/{name}.json")
        seconds += kept["seconds"]
    return kept["answers"], seconds


def pool(several: Sequence[Answers]) -> Answers:
    """The answers of one run as they are, those of several as one list a question (`ensemble.pooled`)."""
    if len(several) == 1:
        return several[0]
    return [ensemble.pooled(answers) for answers in zip(*several, strict=True)]


def weights(settings: RunConfig) -> list[tuple[str, float]]:
    """Name and weight of what has a word in the choice, in its order."""
    every = (
        (reread.NAME, settings.rereadings),
        (twin.NAME, settings.twin_weight),
        (channel.NAME, settings.question_weight),
        (verifier.NAME, settings.verifier_weight),
    )
    return [(name, weight) for name, weight in every if weight]


def weighed_identity(before: str, name: str, weight: float, settings: RunConfig, run: Run) -> str:
    """A checksum of all that decides the word of a weigher: the answers that it weighs, its weight, its adapter's bytes.

    Args:
        before: the checksum of those answers.
    """
    content = (run / name / "adapter/adapter_model.safetensors").read_bytes() if name in ADAPTERS else b""
    return hashlib.sha256(f"{before} {name} {weight} {settings.query_timeout}".encode() + content).hexdigest()


def weighers(
    model: Any, tokenizer: Any, questions: Sequence[str], views: Sequence[View], settings: RunConfig
) -> Iterator[tuple[str, float, Callable[[Answers, list[int]], Answers]]]:
    """What has a word in the choice, in its order: name, weight, and what weighs the answers to some questions.

    It takes the answers to all and the numbers of some.
    """

    def by(weigh: Callable[..., Answers], title: str, *about: Sequence[Any]) -> Callable[[Answers, list[int]], Answers]:
        def some_weighed(some: Answers, numbers: list[int]) -> Answers:
            mine = [[one[number] for number in numbers] for one in (some, *about)]
            return weigh(model, tokenizer, *mine, settings, progress=title if processes.is_first() else "")

        return some_weighed

    weigh = {
        reread.NAME: by(reread.weigh, "candidates read again", questions, views),
        twin.NAME: by(twin.weigh, "the twin's opinion", questions, views),
        channel.NAME: by(channel.weigh, "questions from candidates", questions),
        verifier.NAME: by(verifier.weigh, "candidates verified", questions, views),
    }
    for name, weight in weights(settings):
        yield name, weight, weigh[name]


def attach(model: Any, run: Run, settings: RunConfig) -> None:
    """Give a tuned model the further adapters of its run that the settings give weight.

    Raises:
        runs.MissingStep: the run lacks one.
    """
    for name, setting in ADAPTERS.items():
        if getattr(settings, setting):
            extra.attach(name, setting, model, run)


def weighed(
    model: Any, tokenizer: Any, some: Answers, questions: Sequence[str], views: Sequence[View], settings: RunConfig
) -> Answers:
    """Answers read again and with the word of every adapter that the model has, as the settings ask, outside of a run."""
    for name, _, weigh in weighers(model, tokenizer, questions, views, settings):
        if name not in ADAPTERS or extra.is_attached(name, model):
            some = weigh(some, list(range(len(some))))
    return some


def once(
    run: Run, name: str, identity: str, questions: int, find: Callable[[list[int]], Answers], **about: Any
) -> dict[str, Any]:
    """What evaluation/NAME.json keeps, found if it is not there: `answers` to all questions, and the `seconds` that they took.

    Args:
        identity: a checksum of what the answers are made with.
        find: the answers to some questions, by their numbers.
        about: what else to keep beside them.
    """
    stored = f"evaluation/{name}.json"
    if is_kept(run, name, identity):
        return run.read_json(stored)
    processes.meet()
    begin = time.perf_counter()
    answers = [[list(one) for one in some] for some in processes.spread(questions, find)]
    kept = {"made_with": identity, **about, "seconds": round(time.perf_counter() - begin, 2), "answers": answers}
    if processes.is_first():
        run.write_json(stored, kept)
    return kept


def weighed_before(run: Run, name: str, weight: float) -> dict[str, Any]:
    """What the run keeps of a weigher, for those who look at it later: `answers` and `seconds`.

    Raises:
        OtherConfiguration: it has not weighed these answers, or had another weight.
    """
    stored = f"evaluation/{name}.json"
    kept = run.read_json(stored) if (run / stored).is_file() else {}
    if kept.get("weight") != weight:
        raise OtherConfiguration(
            f"{run.path.name} is set to weigh with {name} {weight:g}, and its answers were found without that: answer again, "
            "by 05 or tools.trial"
        )
    return kept


def is_kept(run: Run, name: str, identity: str) -> bool:
    """Whether the run folder has the answers that were made with just this."""
    stored = f"evaluation/{name}.json"
    return (run / stored).is_file() and run.read_json(stored).get("made_with") == identity


def chosen(
    answers: Sequence[Sequence[tuple[str, float]]], views: Sequence[View], settings: RunConfig, progress: str
) -> list[str]:
    """One SQL prediction a question: the only candidate, or the likeliest that runs, best with rows (`choice.choose`)."""
    if all(len(some) < 2 for some in answers):
        return [view.sql(some[0][0]) if some else "" for some, view in zip(answers, views, strict=True)]
    found = []
    pairs = tqdm(list(zip(answers, views, strict=True)), desc=progress, unit="question")
    with execution.Sandbox(execution.Limits(seconds=settings.query_timeout)) as sandbox:
        for some, view in pairs:
            best = choice.choose(choice.tried_in(sandbox, view.database, probable(some, view)))
            found.append(best.sql if best else "")
    return found


def probable(answers: Sequence[tuple[str, float]], view: View) -> dict[str, float]:
    """The probability of each distinct SQL among the answers to one question, of (text, log probability)."""
    found: dict[str, float] = {}
    for text, log in answers:
        if sql := view.sql(text):
            found[sql] = min(1.0, found.get(sql, 0.0) + math.exp(log))
    return found


def checkers(model: Any, tokenizer: Any, views: Sequence[View], settings: RunConfig) -> list[constraint.Checker] | None:
    """What forbids names that a database lacks, for each prompt; None where nothing is forbidden."""
    if not settings.constrained or settings.prompt_style != "linked":
        return None
    vocabulary = constraint.vocabulary(tokenizer, frozenset(generation.stop_tokens(model, tokenizer)))
    made: dict[int, constraint.Checker] = {}
    for view in views:
        if id(view.names) not in made:
            made[id(view.names)] = constraint.Checker(view.names, vocabulary)
    return [made[id(view.names)] for view in views]


def fingerprint(prompts_ids: Sequence[list[int]], settings: RunConfig, run: Run, *, base: bool) -> str:
    """A checksum of all that decides the answers: prompts, model, length, and the adapter's bytes unless it is switched off."""
    decisive = [
        FORMAT,
        settings.model_name,
        settings.load_in_4bit,
        settings.precision,
        models.to_answer(settings).engine,
        settings.max_new_tokens,
        *(() if base else (settings.constrained, settings.candidates)),
        prompts_ids,
    ]
    total = hashlib.sha256(json.dumps(decisive).encode())
    if not base:
        total.update((run / "adapter/adapter_model.safetensors").read_bytes())
    return total.hexdigest()
