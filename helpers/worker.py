"""One process of several that do a notebook's work together: accelerate launch --num_processes 2 -m helpers.worker train RUN

`train` does what 04 Train does, `channel` trains its reranker, `answers` finds the answers that 05 Evaluate judges. The run
folder must hold what they read; on several hosts, all of them must see it.
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
    parser.add_argument("job", choices=list(JOBS))
    parser.add_argument("run_dir", metavar="RUN", help="the run folder")
    parser.add_argument("--shape", type=json.loads, metavar="JSON", help="of a step, where a notebook has found it")
    options = parser.parse_args(arguments)
    run = Run(machine.resolve(options.run_dir))
    if not processes.is_main_process():
        os.environ["TQDM_DISABLE"] = "1"  # before anything imports it
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - to the end of the process
    processes.show_own_gpu()
    state = processes.partial_state()
    try:
        run.require("data", "helpers.worker")
        JOBS[options.job](run, options.shape)
    except Exception as error:
        processes.record_failure(run, error)
        raise
    state.destroy_process_group()


def train(run: Run, shape: dict | None) -> None:
    """Train the adapter and keep it."""
    from helpers import adapter, models, prompts, trainer, training

    settings = run.config()
    model, tokenizer = models.load(settings)
    rows = prompts.read_training_rows(run, tokenizer)
    outcome = training.train(model, tokenizer, rows, settings, run, shape=shape and trainer.Shape(**shape))
    if processes.is_main_process():
        adapter.save(model, tokenizer, settings, run, outcome)


def train_reranker(run: Run, shape: dict | None) -> None:
    """Train the reranker and keep it."""
    from helpers import model_files, models, trainer, training

    settings = run.config()
    models.start_engine(settings)
    tokenizer = models.load_tokenizer(model_files.find(settings.model_name))
    training.train_reranker(run, tokenizer, settings, shape=shape and trainer.Shape(**shape))


def answers(run: Run, shape: None) -> None:
    """Find the answers before and after training, each process those to a share of the questions."""
    from helpers import answers, models, prompts

    run.require("train", "helpers.worker")
    settings = run.config()
    examples, messages = prompts.read_dev(run, settings)
    views = prompts.views_of(examples, prompts.load_dataset(run, settings), settings)
    model, tokenizer = models.load_trained(settings, run / "adapter")
    answers.attach(model, run, settings)
    questions = [example.question for example in examples]
    for base in (True, False):
        answers.found(model, tokenizer, messages, settings, run, questions=questions, views=views, base=base)


JOBS = {"train": train, "channel": train_reranker, "answers": answers}

if __name__ == "__main__":
    main()
    # All is written. In Python's own end a thread of a library that still wants the interpreter aborts the process now and then.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
