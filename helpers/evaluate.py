"""Step 5, Evaluate: answer dev questions, select one query for each, judge it, and record the scores."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from helpers import models
from helpers.databases.sandbox import Limits, Sandbox
from helpers.decoding import generate, grammar, rerank, select
from helpers.decoding.generate import Beams
from helpers.judge import test_suite, verdicts
from helpers.judge.scores import paired_difference, summary
from helpers.judge.verdicts import Verdict
from helpers.prompts.question import Question
from helpers.run import processes
from helpers.run.config import RunConfig
from helpers.run.folder import Run
from helpers.run.progress import tqdm
from helpers.trainer import adapter

FORMAT = 5  # of the answers kept in a run folder


class Predictions(NamedTuple):
    """The predictions of one system.

    Attributes:
        sql: one query a question, '' where the model wrote none.
        seconds: what generating, reranking and selecting took when they were made.
    """

    sql: list[str]
    seconds: float


# ---- predict


def load(run: Run, settings: RunConfig) -> tuple[Any, Any]:
    """Return the run's trained model, with its reranker where the settings give it weight, and the tokenizer.

    Raises:
        OtherConfiguration: the adapter belongs to another model or has another shape.
        MissingStep: the run has no reranker.
        ModelNotFound: the base model cannot be had.
    """
    model, tokenizer = models.load_trained(settings, run / "adapter")
    attach_reranker(model, run, settings)
    return model, tokenizer


def attach_reranker(model: Any, run: Run, settings: RunConfig) -> None:
    """Load the run's reranker into a trained model, where the settings give it weight.

    Raises:
        MissingStep: the run has none.
    """
    if settings.rerank_weight:
        rerank.attach(model, run)


def predict(
    model: Any, tokenizer: Any, questions: Sequence[Question], settings: RunConfig, run: Run, *, base: bool = False
) -> Predictions:
    """Predict one SQL query a question, and keep the answers in the run folder.

    Answers that the run folder already has from the same model, settings and questions are not made again. If `num_processes` >
    1, the questions are split across that many processes.

    Args:
        base: the base model answers (the adapter is disabled): greedy, one candidate, no grammar.

    Raises:
        processes.ProcessesFailed: one of several processes ended.
    """
    beams, seconds = candidates(model, tokenizer, questions, settings, run, base=base)
    begin = time.perf_counter()
    sql = select_all(beams, questions, settings, progress=f"{'base' if base else 'tuned'} candidates")
    return Predictions(sql, seconds + time.perf_counter() - begin)


def candidates(
    model: Any, tokenizer: Any, questions: Sequence[Question], settings: RunConfig, run: Run, *, base: bool = False
) -> tuple[Beams, float]:
    """Return the candidates of each question, reranked but not yet selected from, and the seconds they took. As `predict`."""
    name = "base" if base else "tuned"
    prompts = [question.ids(tokenizer) for question in questions]
    identity = fingerprint(prompts, settings, run, base=base)
    if settings.num_processes > 1 and not processes.is_distributed() and kept(run, name, identity) is None:
        processes.launch("answers", run, settings.num_processes)

    def generate_some(numbers: list[int]) -> Beams:
        return generate.generate_candidates(
            model,
            tokenizer,
            [prompts[number] for number in numbers],
            count=1 if base else settings.candidates,
            max_new_tokens=settings.max_new_tokens,
            batch_size=settings.per_device_eval_batch_size,
            grammars=None if base else grammars(model, tokenizer, [questions[number] for number in numbers], settings),
            base=base,
            progress=f"{name} answers" if processes.is_main_process() else "",
        )

    beams, seconds = cached(run, name, identity, len(questions), generate_some)
    if base or not settings.rerank_weight:
        return beams, seconds

    def rerank_some(numbers: list[int]) -> Beams:
        return rerank.rescore(
            model,
            tokenizer,
            [beams[number] for number in numbers],
            [questions[number].text for number in numbers],
            settings,
            progress="reranking" if processes.is_main_process() else "",
        )

    reranked, more = cached(run, rerank.NAME, reranked_fingerprint(identity, settings, run), len(questions), rerank_some)
    return reranked, seconds + more


def greedy_texts(
    model: Any, tokenizer: Any, questions: Sequence[Question], settings: RunConfig, *, base: bool = False, progress: str = ""
) -> list[str]:
    """Return the model's greedy answers as it writes them, without a grammar, and keep nothing."""
    return generate.greedy_answers(
        model,
        tokenizer,
        [question.ids(tokenizer) for question in questions],
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.per_device_eval_batch_size,
        base=base,
        progress=progress,
    )


def select_all(beams: Beams, questions: Sequence[Question], settings: RunConfig, progress: str = "") -> list[str]:
    """Return one query a question: its only candidate, or the one selected by execution; '' where there is none."""
    if all(len(answers) < 2 for answers in beams):
        return [question.sql(answers[0][0]) if answers else "" for answers, question in zip(beams, questions, strict=True)]
    sql = []
    pairs = tqdm(list(zip(beams, questions, strict=True)), desc=progress, unit="question", disable=not progress)
    with Sandbox(Limits(seconds=settings.query_timeout)) as sandbox:
        for answers, question in pairs:
            probabilities = merge_duplicates(answers, question)
            best = select.select(select.execute_in(sandbox, question.prompt.database, probabilities))
            sql.append(best.sql if best else "")
    return sql


def merge_duplicates(answers: Sequence[tuple[str, float]], question: Question) -> dict[str, float]:
    """Return each distinct query's summed probability (0 to 1) among (text, log probability in nats) answers to a question."""
    probabilities: dict[str, float] = {}
    for text, log in answers:
        if sql := question.sql(text):
            probabilities[sql] = min(1.0, probabilities.get(sql, 0.0) + math.exp(log))
    return probabilities


def grammars(model: Any, tokenizer: Any, questions: Sequence[Question], settings: RunConfig) -> list[grammar.Grammar] | None:
    """Return the grammar for each question's answer; None where the settings do not constrain decoding."""
    if not settings.constrained or settings.prompt_style != "linked":
        return None
    vocabulary = grammar.vocabulary(tokenizer, frozenset(generate.stop_tokens(model, tokenizer)))
    of_names = functools.cache(functools.partial(grammar.Grammar, vocabulary=vocabulary))
    return [of_names(question.prompt.names) for question in questions]


# ---- answers kept in the run folder


def cached(run: Run, name: str, identity: str, questions: int, make: Callable[[list[int]], Beams]) -> tuple[Beams, float]:
    """Return the candidates in evaluation/NAME.json and the seconds they took; make and keep them if they are not there.

    Args:
        identity: checksum of everything that the candidates depend on.
        make: returns the candidates of some questions, given their numbers.
    """
    content = kept(run, name, identity)
    if content is None:
        processes.barrier()
        begin = time.perf_counter()
        beams = [[list(answer) for answer in answers] for answers in processes.shard_and_gather(questions, make)]
        content = {"made_with": identity, "seconds": round(time.perf_counter() - begin, 2), "answers": beams}
        if processes.is_main_process():
            run.write_json(f"evaluation/{name}.json", content)
    return content["answers"], content["seconds"]


def kept(run: Run, name: str, identity: str) -> dict[str, Any] | None:
    """Return what the run folder has under evaluation/NAME.json; None unless it was made with exactly this."""
    file = f"evaluation/{name}.json"
    content = run.read_json(file) if (run / file).is_file() else {}
    return content if content.get("made_with") == identity else None


def fingerprint(prompts: Sequence[list[int]], settings: RunConfig, run: Run, *, base: bool) -> str:
    """Return a checksum of everything that answers depend on: prompts, model, decoding, and for the tuned model the adapter."""
    content = [
        FORMAT,
        settings.model_name,
        settings.load_in_4bit,
        settings.precision,
        models.to_answer(settings).engine,
        settings.max_new_tokens,
        *(() if base else (settings.constrained, settings.candidates)),
        prompts,
    ]
    checksum = hashlib.sha256(json.dumps(content).encode())
    if not base:
        checksum.update((run / "adapter/adapter_model.safetensors").read_bytes())
    return checksum.hexdigest()


def reranked_fingerprint(candidates: str, settings: RunConfig, run: Run) -> str:
    """Return a checksum of everything that reranked candidates depend on: the candidates' own checksum, weight, reranker."""
    weights = (run / rerank.NAME / "adapter/adapter_model.safetensors").read_bytes()
    return hashlib.sha256(f"{candidates} {settings.rerank_weight}".encode() + weights).hexdigest()


# ---- judge and record


def judge(questions: Sequence[Question], sql: Sequence[str], settings: RunConfig, *, progress: str = "judging") -> list[Verdict]:
    """Judge predictions on each question's database and on altered copies of it.

    Args:
        questions: with their examples.
        sql: one query a question.
        progress: title of the progress bars; '' shows none.

    Raises: as `verdicts.judge_all`.
    """
    databases = {question.example.db_id: question.prompt.database for question in questions}
    return verdicts.judge_all(
        [(question.example.query, question.example.db_id) for question in questions],
        sql,
        test_suite.cached_copies(databases, progress=progress and "altered copies"),
        limits=Limits(seconds=settings.query_timeout),
        progress=progress,
    )


def write_evaluation(
    run: Run,
    questions: Sequence[Question],
    base: tuple[Predictions, Sequence[Verdict]],
    tuned: tuple[Predictions, Sequence[Verdict]],
    differing: Sequence[int] = (),
) -> None:
    """Write predictions, verdicts and scores of both systems into the run folder, and the scores into record.json.

    Args:
        base, tuned: predictions of each system with their verdicts.
        differing: numbers of the questions whose data is known to differ from the release's.
    """
    examples = [question.example for question in questions]
    for name, (predictions, _) in (("predictions", tuned), ("predictions_base", base)):
        run.write_text(f"evaluation/{name}.txt", "".join(f"{sql}\n" for sql in predictions.sql))
    systems = [
        [{"sql": sql} | asdict(verdict) for sql, verdict in zip(predictions.sql, judged, strict=True)]
        for predictions, judged in (base, tuned)
    ]
    rows = [asdict(example) | {"base": before, "tuned": after} for example, before, after in zip(examples, *systems, strict=True)]
    run.write_jsonl("evaluation/verdicts.jsonl", rows)
    note = run.record().get("data_note")
    run.write_text("evaluation/scores.txt", scores_text(base[1], tuned[1], differing, note))
    entry = {
        "questions": len(examples),
        "seen_databases": sum(example.seen for example in examples),
        "decoding": run.config().decoding,
        "seconds": round(tuned[0].seconds, 1),
    }
    run.add_to_record(evaluation=entry | scores_entries(base[1], tuned[1], differing))
    adapter.add_scores(run)


def scores_text(base: Sequence[Verdict], tuned: Sequence[Verdict], differing: Sequence[int], note: str | None) -> str:
    """Return the scores as text: EX and EM by hardness, the paired difference, and what to know of questions and data."""
    from helpers.report import tables  # pandas: who only answers does without

    lines = [tables.compare_table(base, tuned).to_string(), "", tables.difference_sentence(base, tuned)]
    return "\n".join([*lines, *tables.weak_lines(tuned, differing), *([f"Note: {note}"] if note else [])]) + "\n"


def scores_entries(base: Sequence[Verdict], tuned: Sequence[Verdict], differing: Sequence[int]) -> dict[str, Any]:
    """Return the scores in the form of record.json."""
    return {
        "base": summary(base, differing),
        "tuned": summary(tuned, differing),
        "difference": {name: float(f"{value:.6g}") for name, value in paired_difference(base, tuned).items()},
    }
