"""The predictions of a run: answers found, kept in the run folder, weighed, and one SQL chosen for each question."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from helpers import choice, constraint, generation, models, prompts, rerank
from helpers.databases.sandbox import Limits, Sandbox
from helpers.generation import Answers
from helpers.run import processes
from helpers.run.config import RunConfig
from helpers.run.folder import Run
from helpers.run.progress import tqdm
from helpers.views import View

FORMAT = 3  # of the kept answers


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

    Raises:
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
    """The answers to each message, not yet chosen from, and the seconds that they took. As `predict`.

    Raises: as `predict`.
    """
    name = "base" if base else "tuned"
    prompts_ids = [prompts.prompt_ids(tokenizer, message) for message in messages]
    identity = fingerprint(prompts_ids, settings, run, base=base)
    rules = None if base else checkers(model, tokenizer, views, settings)
    if settings.num_processes > 1 and not processes.is_distributed() and not is_kept(run, name, identity):
        processes.launch("answers", run, settings.num_processes)

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
            progress=f"{name} answers" if processes.is_main_process() else "",
        )

    kept = once(run, name, identity, len(messages), search)
    if base or not settings.rerank_weight:
        return kept["answers"], kept["seconds"]
    candidates, seconds = kept["answers"], kept["seconds"]

    def rescore(numbers: list[int]) -> Answers:
        return rerank.rescore(
            model,
            tokenizer,
            [candidates[number] for number in numbers],
            [questions[number] for number in numbers],
            settings,
            progress="reranking" if processes.is_main_process() else "",
        )

    kept = once(run, rerank.NAME, reranked_fingerprint(identity, settings, run), len(messages), rescore)
    return kept["answers"], seconds + kept["seconds"]


def reranked_fingerprint(before: str, settings: RunConfig, run: Run) -> str:
    """A checksum of all that decides reranked candidates: the candidates' own (`before`), the weight, the reranker's bytes."""
    content = (run / rerank.NAME / "adapter/adapter_model.safetensors").read_bytes()
    return hashlib.sha256(f"{before} {settings.rerank_weight}".encode() + content).hexdigest()


def attach(model: Any, run: Run, settings: RunConfig) -> None:
    """Load the run's reranker into a tuned model, where the settings give it weight.

    Raises:
        runs.MissingStep: the run has none.
    """
    if settings.rerank_weight:
        rerank.attach(model, run)


def once(run: Run, name: str, identity: str, questions: int, find: Callable[[list[int]], Answers]) -> dict[str, Any]:
    """What evaluation/NAME.json keeps, found if it is not there: `answers` to all questions, and the `seconds` that they took.

    Args:
        identity: a checksum of what the answers are made with.
        find: the answers to some questions, by their numbers.
    """
    stored = f"evaluation/{name}.json"
    if is_kept(run, name, identity):
        return run.read_json(stored)
    processes.barrier()
    begin = time.perf_counter()
    answers = [[list(one) for one in some] for some in processes.shard_and_gather(questions, find)]
    kept = {"made_with": identity, "seconds": round(time.perf_counter() - begin, 2), "answers": answers}
    if processes.is_main_process():
        run.write_json(stored, kept)
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
    with Sandbox(Limits(seconds=settings.query_timeout)) as sandbox:
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
