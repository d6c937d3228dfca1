"""What a second GPU brings, against one of the same machine: python -m tools.scaling RUN [--steps 30] [--questions N].

Trains for some steps and answers dev questions in one and in two processes, from a run whose data is ready, and writes
scaling.json into the run after every arm; scaling_details.json holds each step's loss and all answers. Every arm works in new
processes, on GPUs of its own and in a copy of the run, so that none disturbs another: as many run side by side as there are
GPUs for. Without GPUs the processes share the cores, and arms come one after another.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import answers, config, environment, models, processes, prompts, runs, training
from helpers.config import RunConfig

FILE, DETAILS = "scaling.json", "scaling_details.json"
ARM_FILE, OUTPUT = "arm.json", "output.txt"  # in an arm's folder: what it measured, what it printed
WIDE = ("losses", "answers")  # of an arm's result, in DETAILS alone
COPIED = ("config.json", "record.json", "data", "adapter")  # of the run, where they are there
SHOWN = 12  # lines of a failed arm's output that are kept
WHAT = (
    "Training (some steps) and answering (dev questions) on one and on two GPUs. tokens_per_second, seconds_per_step: as in "
    "record.json; pace: median over the second half of the steps of tokens a second, for the first ones compile. seconds: of the "
    "answers, without starting processes; wall_seconds: with it, and in two processes with loading the model. speedup: pace, or "
    "questions a second, of two over one. losses: the largest relative difference in one step."
)


@dataclass(frozen=True)
class Arm:
    """One measurement.

    Attributes:
        job: "train" or "answers".
        processes: as many GPUs.
        times: the effective batch, as a multiple of the run's.
    """

    name: str
    job: str = "train"
    processes: int = 1
    times: int = 1


ARMS = (
    Arm("one"),
    Arm("one again"),
    Arm("one, four times the batch", times=4),
    Arm("answers, one", job="answers"),
    Arm("two", processes=2),
    Arm("two, four times the batch", processes=2, times=4),
    Arm("answers, two", job="answers", processes=2),
    Arm("two, as many each", processes=2, times=2),
)
NAMES = [arm.name for arm in ARMS]
SPEEDUPS = {  # what is compared: (two, one)
    "same batch": ("two", "one"),
    "as many each": ("two, as many each", "one"),
    "four times the batch": ("two, four times the batch", "one, four times the batch"),
    "answers": ("answers, two", "answers, one"),
}
LOSSES = {
    "one/two": ("one", "two"),
    "one/one again": ("one", "one again"),
    "four times the batch": ("one, four times the batch", "two, four times the batch"),
}


def measure(run: runs.Run, options: argparse.Namespace) -> dict[str, Any]:
    """Measure all arms, or some while those measured before stay, and keep the result after each of them."""
    settings, devices = run.config(), gpus()
    arms = run.read_json(DETAILS) if options.only and (run / DETAILS).is_file() else {}
    result: dict[str, Any] = {}
    wanted = [arm for arm in ARMS if not options.only or arm.name in options.only]
    for group in groups(wanted, len(devices)):
        for name, found in side_by_side(run, settings, group, devices, options).items():
            arms[name] = found
            print(line(name, found), flush=True)
            run.write_json(DETAILS, arms)  # first: comparing arms of different calls can fail
            result = summary(arms, options, settings, devices)
            run.write_json(FILE, result)
    return result


def groups(arms: Sequence[Arm], gpus: int) -> list[list[Arm]]:
    """The arms in their order, cut into groups that work at the same time; one by one where there are no GPUs."""
    found: list[list[Arm]] = []
    for arm in arms:
        if found and sum(one.processes for one in found[-1]) + arm.processes <= gpus:
            found[-1].append(arm)
        else:
            found.append([arm])
    return found


def gpus() -> list[str]:
    """The GPUs, as CUDA_VISIBLE_DEVICES names them; none on a machine without.

    Raises:
        SystemExit: there is just one.
    """
    import torch

    number = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if number == 1:
        sys.exit("This machine has one GPU: there is no second to compare it with")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(number)))
    return visible.split(",")[:number]


def side_by_side(
    run: runs.Run, settings: RunConfig, arms: Sequence[Arm], devices: Sequence[str], options: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """What some arms measured that ran at the same time, by their names; `error` in place of it for one that failed."""
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="scaling.") as temporary:
        started: list[tuple[Arm, Path, subprocess.Popen]] = []
        try:
            free = list(devices)
            for number, arm in enumerate(arms):
                folder = Path(temporary, str(number))
                prepare(run, settings, arm, folder, options)
                own, free = free[: arm.processes], free[arm.processes :]
                started.append((arm, folder, start(arm, folder, own)))
            deadline = time.monotonic() + options.limit
            for arm, folder, running in started:
                try:
                    running.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    found[arm.name] = {"error": f"not done after {options.limit:g} s\n{last_lines(folder / OUTPUT)}"}
                else:
                    found[arm.name] = left_by(folder, running.returncode)
        finally:
            for _, _, running in started:
                end(running)
    return found


def prepare(run: runs.Run, settings: RunConfig, arm: Arm, folder: Path, options: argparse.Namespace) -> None:
    """Make an arm's own run folder, its data ready and its settings in place."""
    folder.mkdir()
    for name in COPIED:
        if (run / name).is_dir():
            shutil.copytree(run / name, folder / name)
        elif (run / name).is_file():
            shutil.copy(run / name, folder / name)
    own = runs.Run(folder)
    if arm.job == "train":
        shutil.rmtree(folder / "adapter", ignore_errors=True)
        changes = training_changes(settings, arm, options.steps, options.micro_batch)
    else:
        asked = prompts.draw(run.read_jsonl("data/dev.jsonl"), settings.eval_questions, settings.seed)
        own.write_jsonl("data/dev.jsonl", asked[: options.questions or None])
        changes = {"eval_questions": 0, "num_processes": arm.processes}
    changes |= dict.fromkeys(config.WEIGHING, 0)  # the first adapter alone is measured
    runs.save_config(own, settings.with_overrides(changes, "tools.scaling"))


def training_changes(settings: RunConfig, arm: Arm, steps: int, micro_batch: int) -> dict[str, Any]:
    """The settings of a training arm: nothing is left for a probe to find.

    Args:
        steps: optimiser steps.
        micro_batch: at most so many examples at a time in a process; 0 is its whole share of a step.
    """
    effective = settings.effective_batch * arm.times
    share = effective // arm.processes
    size = max(size for size in range(1, share + 1) if share % size == 0 and size <= (micro_batch or share))
    return {
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": effective // size,
        "gradient_checkpointing": "off",
        "max_steps": steps,
        "save_steps": steps + 1,
        "num_processes": arm.processes,
    }


def start(arm: Arm, folder: Path, devices: Sequence[str]) -> subprocess.Popen:
    """Start an arm on these GPUs; what it prints goes to a file of its folder."""
    own = {
        "COURSE_HEADLESS": "1",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(processes.threads(2)),  # as many for every process of every arm
        "UNSLOTH_COMPILE_LOCATION": str(folder / "unsloth_compiled"),  # two arms would write the same files
    }
    if devices:
        own["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    with open(folder / OUTPUT, "wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "tools.scaling", str(folder), "--job", arm.job],
            cwd=environment.ROOT,
            env=os.environ | own,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def end(running: subprocess.Popen) -> None:
    """End an arm that still runs, and all processes that it has started: those of a job are a session of their own."""
    import psutil

    if running.poll() is not None:
        return
    parent = psutil.Process(running.pid)
    family = [parent, *parent.children(recursive=True)]
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    running.wait()
    psutil.wait_procs(family, timeout=20)


def left_by(folder: Path, code: int) -> dict[str, Any]:
    """What an arm left that ended with an exit status."""
    own = runs.Run(folder)
    if code or not (own / ARM_FILE).is_file():
        return {"error": f"exit status {code}\n{last_lines(own / OUTPUT)}"}
    return own.read_json(ARM_FILE)


def last_lines(path: Path) -> str:
    """The end of a program's output, of a progress bar only its last state."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return "\n".join([text for text in lines if text.strip()][-SHOWN:])


def trained(run: runs.Run) -> dict[str, Any]:
    """A training arm, in its own process."""
    settings = run.config()
    model, tokenizer = models.load(settings)
    rows = prompts.read_training_rows(run, tokenizer, settings)
    begin = time.perf_counter()
    outcome = training.train(model, tokenizer, rows, settings, run)
    wall = time.perf_counter() - begin
    timed = outcome.log[len(outcome.log) // 2 :]
    return outcome.record() | {
        "effective_batch": settings.effective_batch,
        "pace": round(statistics.median(step["tokens"] / step["seconds"] for step in timed), 1),
        "wall_seconds": round(wall, 2),
        "losses": [step["loss"] for step in outcome.log],
    }


def answered(run: runs.Run) -> dict[str, Any]:
    """An arm that answers, in its own process: with the run's adapter, or with an untrained one."""
    settings = run.config()
    if run.has("train"):
        model, tokenizer = models.load_trained(settings, run / "adapter")
    else:
        model, tokenizer = models.load(models.to_answer(settings))
        with run.new_folder("adapter") as folder:
            model.save_pretrained(folder)
    examples, messages = prompts.read_dev(run, settings)
    views = prompts.views_of(examples, prompts.load_dataset(run, settings), settings)
    leave_out_base(run, tokenizer, messages, settings)
    questions = [example.question for example in examples]
    begin = time.perf_counter()
    found, seconds = answers.found(model, tokenizer, messages, settings, run, questions=questions, views=views, base=False)
    return {
        "processes": settings.num_processes,
        "questions": len(questions),
        "seconds": seconds,
        "wall_seconds": round(time.perf_counter() - begin, 2),
        "answers": found,
    }


def leave_out_base(run: runs.Run, tokenizer: Any, messages: Sequence[str], settings: RunConfig) -> None:
    """Mark the answers before training as found, which several processes would find as well."""
    ids = [prompts.prompt_ids(tokenizer, message, settings.date_string) for message in messages]
    identity = answers.fingerprint(ids, settings, run, base=True)
    run.write_json("evaluation/base.json", {"made_with": identity, "seconds": 0.0, "answers": [[] for _ in messages]})


JOBS = {"train": trained, "answers": answered}


def summary(
    arms: Mapping[str, dict[str, Any]], options: argparse.Namespace, settings: RunConfig, devices: Sequence[str]
) -> dict[str, Any]:
    """What scaling.json says: the arms without lists of losses and answers, their comparison, and the machine."""
    shown = {name: {key: value for key, value in arms[name].items() if key not in WIDE} for name in NAMES if name in arms}
    asked = {"steps": options.steps, "questions": options.questions, "micro_batch": options.micro_batch}
    asked |= {"candidates": settings.candidates, "max_new_tokens": settings.max_new_tokens, "threads": processes.threads(2)}
    return {"what": WHAT, "asked_for": asked, "arms": shown, **compared(arms), "gpus_there": len(devices), **runs.machine()}


def compared(arms: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Speed-ups, and how far losses and answers are from each other; None where an arm of two is missing or failed."""
    good = {name: found for name, found in arms.items() if "error" not in found}

    def both(compare: Any, names: tuple[str, str]) -> Any:
        return compare(*(good[name] for name in names)) if all(name in good for name in names) else None

    return {
        "speedup": {name: both(speedup, pair) for name, pair in SPEEDUPS.items()},
        "losses": {name: both(loss_difference, pair) for name, pair in LOSSES.items()},
        "answers": both(answer_difference, ("answers, one", "answers, two")),
    }


def speedup(two: Mapping[str, Any], one: Mapping[str, Any]) -> float:
    """How many times as fast as `one` an arm is: in tokens a second, or in answers to the same questions."""
    return round(two["pace"] / one["pace"] if "pace" in one else one["seconds"] / two["seconds"], 3)


def loss_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """The largest relative difference between the losses of a step."""
    return max(abs(a - b) / abs(a) for a, b in zip(one["losses"], other["losses"], strict=True))


def answer_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Whether two arms answered the same, by text.

    Returns:
        same: whether all candidates to all questions are; share_other_candidates, share_other_first: of the questions, those
        with another list of candidates, and with another first one; largest_difference: of log probabilities of the first.
    """
    pairs = list(zip(one["answers"], other["answers"], strict=True))
    texts = [[[text for text, _ in some] for some in pair] for pair in pairs]
    others = sum(a != b for a, b in texts)
    firsts = sum(a[:1] != b[:1] for a, b in texts)
    return {
        "same": not others,
        "share_other_candidates": round(others / len(pairs), 4),
        "share_other_first": round(firsts / len(pairs), 4),
        "largest_difference": max((abs(a[0][1] - b[0][1]) for a, b in pairs if a and b), default=0.0),
    }


def line(name: str, found: Mapping[str, Any]) -> str:
    """An arm as a line of the table."""
    if "error" in found:
        return f"{name:<26} FAILED: {found['error']}"
    if "pace" not in found:
        return (
            f"{name:<26} {found['questions']:>5} questions {found['seconds']:>9.2f} s {found['wall_seconds']:>9.2f} s with start"
        )
    shape = f"{found['per_device_train_batch_size']} x {found['gradient_accumulation_steps']} x {found['processes']}"
    return (
        f"{name:<26} {shape:>10} {found['seconds_per_step']:>9.4f} s/step {found['tokens_per_second']:>9.0f} tokens/s "
        f"{found['pace']:>9.0f} median {found['peak_memory_gib']:>6.1f} GiB"
    )


def table(result: Mapping[str, Any]) -> str:
    """All arms and their comparison, to read."""
    lines = [line(name, found) for name, found in result["arms"].items()]
    lines += [f"speedup, {name:<17} {value if value is not None else '-'}" for name, value in result["speedup"].items()]
    lines += [f"losses, {name:<18} {value if value is not None else '-'}" for name, value in result["losses"].items()]
    return "\n".join([*lines, f"answers {result['answers']}"])


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(prog="python -m tools.scaling", description=__doc__)
    found.add_argument("run_dir", metavar="RUN", help="a run folder whose data is ready")
    found.add_argument("--steps", type=int, default=30, help="optimiser steps of each training")
    found.add_argument("--questions", type=int, default=0, metavar="N", help="the first N dev questions; 0 takes all of the run")
    found.add_argument(
        "--micro-batch", type=int, default=0, metavar="N", help="at most N examples at a time; 0: a process's share of a step"
    )
    found.add_argument("--limit", type=float, default=240.0, metavar="SECONDS", help="for each arm")
    found.add_argument(
        "--only", action="append", choices=NAMES, metavar="ARM", help=f"this arm, and others given so: {'; '.join(NAMES)}"
    )
    found.add_argument("--job", choices=list(JOBS), help=argparse.SUPPRESS)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, or do the work of one arm."""
    options = parser().parse_args(arguments)
    run = runs.Run(environment.resolve(options.run_dir))
    run.require("data", "tools.scaling")
    if options.job:
        run.write_json(ARM_FILE, JOBS[options.job](run))
    else:
        print("\n" + table(measure(run, options)))


if __name__ == "__main__":
    main()
