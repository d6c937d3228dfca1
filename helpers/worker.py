"""One of several processes that share a notebook's work: accelerate launch --num_processes 2 -m helpers.worker train RUN

`train` trains the adapter as 04 Train does, `channel` its reranker; `answers` generates the answers that 05 Evaluate judges;
`train,channel,answers` does all three. The run folder must hold what they read, and on several hosts all of them must see it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from helpers.run import machine, processes
from helpers.run.folder import Run


def main(arguments: Sequence[str] | None = None) -> None:
    """Do one job."""
    parser = argparse.ArgumentParser(prog="accelerate launch -m helpers.worker", description=__doc__)
    parser.add_argument("jobs", metavar="JOB[,JOB]", type=lambda text: text.split(","), help=f"of {', '.join(JOBS)}")
    parser.add_argument("run_dir", metavar="RUN", help="the run folder")
    parser.add_argument("--shape", type=json.loads, metavar="JSON", help="layout of a batch for the first job")
    options = parser.parse_args(arguments)
    if unknown := [job for job in options.jobs if job not in JOBS]:
        parser.error(f"there is no job {unknown[0]!r}: choose from {', '.join(JOBS)}")
    run = Run(machine.resolve(options.run_dir))
    if not processes.is_main_process():
        os.environ["TQDM_DISABLE"] = "1"  # before anything imports it
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    processes.show_own_gpu()
    machine.prepare_torch()
    state = processes.partial_state()
    try:
        run.require("data", "helpers.worker")
        for number, job in enumerate(options.jobs):
            JOBS[job](run, None if number else options.shape)
            processes.barrier()  # the main process alone writes what the next job reads
    except Exception as error:
        processes.record_failure(run, error)
        raise
    state.destroy_process_group()


def train(run: Run, shape: dict | None) -> None:
    """Train the adapter and save it."""
    from helpers import train
    from helpers.trainer.trainer import BatchLayout

    settings = run.config()
    model, tokenizer, rows = train.load(run, settings)
    outcome = train.train(model, tokenizer, rows, settings, run, layout=shape and BatchLayout(**shape))
    if processes.is_main_process():
        train.save(model, tokenizer, settings, run, outcome)


def train_reranker(run: Run, shape: dict | None) -> None:
    """Train the reranker and save it."""
    from helpers import train
    from helpers.trainer.trainer import BatchLayout

    train.train_reranker(run, run.config(), layout=shape and BatchLayout(**shape))


def answers(run: Run, shape: None) -> None:
    """Generate the answers of the base and the tuned model, each process for its share of the questions."""
    from helpers import data, evaluate

    run.require("train", "helpers.worker")
    settings = run.config()
    questions = data.dev_questions(run, settings)
    model, tokenizer = evaluate.load(run, settings)
    for base in (True, False):
        evaluate.candidates(model, tokenizer, questions, settings, run, base=base)


JOBS = {"train": train, "channel": train_reranker, "answers": answers}

if __name__ == "__main__":
    main()
    # All is written. At the interpreter's own exit a library's thread that still runs Python aborts the process now and then.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
