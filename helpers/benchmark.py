"""The recipe in variants, measured on the GPU at hand, each in a process of its own (python -m helpers.benchmark)."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.run import config, machine, memory
from helpers.run.config import RunConfig
from helpers.run.files import write_text
from helpers.run.folder import Run
from helpers.run.presets import PRESETS
from helpers.run.progress import tqdm

if TYPE_CHECKING:
    from helpers.prompts import Row

FILE = "benchmark.json"
ARM_SECONDS = 300  # after which an arm counts as stuck
UNTIMED_STEPS = 3  # they compile kernels and grow the memory pool; the last of them is made when no other arm gets ready
LOSS_STEPS = 10  # of the arms whose losses are compared
PEAK_STEPS = 6  # after which the peak is read: all arms with the same batch have seen the same rows by then
TRAINING_ROWS = 2000  # more than any arm sees
MODEL_GIB = 2.3  # what the 16-bit weights of such a model take
CORES_EACH = 2  # processor cores for each of the arms that get ready at the same time


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train, or with `answers` to generate.

    Attributes:
        overrides: settings that differ from those of the benchmark.
        steps: optimiser steps; the first three are not timed, and the peak of memory is that of the first six.
        all_tokens: the loss counts prompts as well.
        answers: time this many answers, each as long as gold's, instead of training.
        gib: GPU memory that is left to it while several arms get ready, for a model of 1B weights.
    """

    name: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    steps: int = PEAK_STEPS
    all_tokens: bool = False
    answers: int = 0
    gib: int = 10


WHOLE = {"per_device_train_batch_size": 8}
LITERAL = {"per_device_train_batch_size": 1}
PLAIN = {"engine": "transformers", "gradient_checkpointing": "standard"}
SIXTEEN = {"load_in_4bit": False}
FULL = {name: value for name, value in PRESETS["full"].items() if name not in ("max_steps", "num_train_epochs")}
FULL |= {
    "per_device_train_batch_size": PRESETS["full"]["train_batch_size"],
    "gradient_checkpointing": "off",
}
ARMS = (
    Arm(name="8 x 1", overrides=WHOLE, steps=LOSS_STEPS),
    Arm(name="1 x 8", overrides=LITERAL, steps=LOSS_STEPS),
    Arm(name="8 x 1 again", overrides=WHOLE, steps=LOSS_STEPS),
    Arm(name="2 x 4", overrides={"per_device_train_batch_size": 2}),
    Arm(name="16-bit weights", overrides=WHOLE | SIXTEEN),
    Arm(name="16-bit weights, fp16", overrides=WHOLE | SIXTEEN | {"precision": "fp16"}),
    Arm(name="float32", overrides=WHOLE | SIXTEEN | {"precision": "fp32"}),
    Arm(name="fp16", overrides=WHOLE | {"precision": "fp16"}, steps=LOSS_STEPS),
    Arm(name="no checkpointing", overrides=WHOLE | {"gradient_checkpointing": "off"}),
    Arm(name="standard checkpointing", overrides=WHOLE | {"gradient_checkpointing": "standard"}),
    Arm(name="AdamW in 32 bits", overrides=WHOLE | {"optim": "adamw_torch"}),
    Arm(name="packing", overrides=WHOLE | {"packing": True}),
    Arm(name="loss on all tokens", overrides=WHOLE, all_tokens=True),
    Arm(name="without Unsloth", overrides=WHOLE | PLAIN),
    Arm(name="without Unsloth, 1 x 8", overrides=LITERAL | PLAIN),
    Arm(name="full", overrides=FULL, steps=LOSS_STEPS, gib=27),
    Arm(name="full without Unsloth", overrides=FULL | {"engine": "transformers"}, steps=LOSS_STEPS, gib=41),
    Arm(name="one answer at a time", overrides={"per_device_eval_batch_size": 1}, answers=12),
    Arm(name="all answers", overrides={"per_device_eval_batch_size": 0}, answers=1034),
)


def run_all(run: Run, settings: RunConfig) -> dict[str, Any]:
    """All arms on the model and data of a run, as benchmark.json keeps them: gpu, versions, and results by arm.

    Prepares the run's data if 02 Data has not.
    """
    from helpers import model_files, models, prompts, spider
    from helpers.databases import schema

    files = model_files.find(settings.model_name)
    tokenizer = models.load_tokenizer(files)
    if not run.has("data"):
        prompts.write_data(run, spider.load_for(settings), tokenizer, settings)
    rows = prompts.draw(prompts.read_training_rows(run, tokenizer), TRAINING_ROWS, settings.seed)
    examples, messages = prompts.read_dev(run, settings)
    asked = [prompts.prompt_ids(tokenizer, message) for message in messages]
    golds = [len(tokenizer(schema.one_line(one.query), add_special_tokens=False)["input_ids"]) + 1 for one in examples]
    recipe = RunConfig(model_name=settings.model_name, data_source=settings.data_source)
    size = sum(file.stat().st_size for file in files.folder.glob("*.safetensors")) / machine.GIB
    measure(ARMS, recipe, rows, list(zip(asked, golds, strict=True)), run, times=max(1.0, size / MODEL_GIB))
    return run.read_json(FILE)


def measure(
    arms: Sequence[Arm],
    settings: RunConfig,
    rows: Sequence[Row],
    prompts: Sequence[tuple[list[int], int]],
    run: Run,
    *,
    times: float = 1.0,
    progress: str = "arms",
) -> dict[str, dict[str, Any]]:
    """Results by arm, kept in the run folder (benchmark.json) after each: a benchmark that is broken off goes on.

    Arms get ready several at a time, as there is room: they load their models and make their first steps, which compile. Then
    they are measured one after the other, while nothing else runs.

    Args:
        rows: examples to train on.
        prompts: (token ids, tokens of gold's answer), for the arms that generate.
        times: how much more memory the model takes than one of 1B weights.

    Returns:
        of an arm: seconds_per_step, tokens_per_second, weights_gib, peak_memory_gib, optimizer_mib, losses; of answers:
        seconds, tokens_in, tokens_out, tokens_per_second, peak_memory_gib; of an arm that failed: error; of all:
        arm_seconds, what it took once it was ready. The file says as well how many seconds the last call took in all.
    """
    kept = run.read_json(FILE) if (run / FILE).is_file() else {}
    values = {name: config.portable(value) for name, value in settings.values().items()}
    content = json.dumps({"rows": [dataclasses.asdict(row) for row in rows], "prompts": list(prompts)})
    data = hashlib.sha256(content.encode()).hexdigest()
    made_with = {"gpu": machine.provenance()["gpu"], "settings": values, "data_sha256": data}
    results: dict[str, dict[str, Any]] = kept["arms"] if kept.get("made_with") == made_with else {}
    waiting = [arm for arm in arms if "error" in results.get(arm.name, {"error": ""})]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as processes:
        shared = write_text(Path(folder, "data.json"), content)
        begin, bar = time.perf_counter(), tqdm(total=len(waiting), desc=progress, unit="arm", disable=not progress)
        for together in rounds(waiting, times):
            started = [processes.enter_context(Process(arm, settings, shared, Path(folder))) for arm in together]
            for one in started:
                one.wait_until_ready()
            for arm, one in zip(together, started, strict=True):
                asked = time.perf_counter()
                result, now = one.result(), time.perf_counter()
                results[arm.name] = result | {"arm_seconds": round(now - asked, 1)}
                all_seconds = round(now - begin, 1)
                run.write_json(FILE, {"made_with": made_with, **machine.provenance(), "seconds": all_seconds, "arms": results})
                bar.update()
        bar.close()
    return results


def rounds(arms: Sequence[Arm], times: float = 1.0) -> list[list[Arm]]:
    """The arms in their order, cut into rounds that get ready together: as the GPU has memory and the processor cores for."""
    device, most = machine.gpu(), max(1, (os.cpu_count() or 1) // CORES_EACH)
    room = device.memory_gib if device else 0.0
    found: list[list[Arm]] = []
    for arm in arms:
        together = found[-1] if found else []
        if together and len(together) < most and times * sum(one.gib for one in (*together, arm)) <= room:
            together.append(arm)
        else:
            found.append([arm])
    return found


class Process:
    """An arm in a process of its own: it gets ready at once, and is measured when its result is asked for."""

    def __init__(self, arm: Arm, settings: RunConfig, shared: Path, folder: Path) -> None:
        number = sum(1 for _ in folder.glob("*.job"))
        job, self.ready, self.out, self.log = (folder / f"{number}.{suffix}" for suffix in ("job", "ready", "out", "log"))
        values = settings.with_overrides(arm.overrides, "benchmark").values()
        files = {"shared": str(shared), "ready": str(self.ready), "out": str(self.out)}
        content = {"arm": dataclasses.asdict(arm), "settings": values, **files}
        write_text(job, json.dumps(content))
        self.file = self.log.open("w", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "helpers.benchmark", str(job)],
            cwd=machine.ROOT,
            stdin=subprocess.PIPE,
            stdout=self.file,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.file.close()

    def wait_until_ready(self) -> None:
        """Wait for it; no longer than for a result, and not if it has ended."""
        deadline = time.monotonic() + ARM_SECONDS
        while not self.ready.is_file() and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)

    def result(self) -> dict[str, Any]:
        """Let it measure, and wait for what it finds."""
        try:
            self.process.communicate(b"go\n", timeout=ARM_SECONDS)
        except subprocess.TimeoutExpired:
            return {"error": f"not done after {ARM_SECONDS} s"}
        if self.out.is_file():
            return json.loads(self.out.read_text(encoding="utf-8"))
        lines = [line for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line[:1].strip()]
        return {"error": (lines or [f"ended with code {self.process.returncode}"])[-1][:300]}


def main(job_file: str) -> None:
    """One arm: load, make the first steps, wait for a line on standard input, measure, write the result."""
    from helpers import models
    from helpers.prompts import Row

    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    arm, settings = Arm(**job["arm"]), RunConfig(**job["settings"])
    models.start_engine(settings)
    import peft  # noqa: F401
    import trl  # noqa: F401

    content = json.loads(Path(job["shared"]).read_text(encoding="utf-8"))
    model, tokenizer = models.load(settings)
    weights = loaded_gib()

    def wait() -> None:
        memory.empty_cache()
        write_text(Path(job["ready"]), "")
        sys.stdin.readline()

    if arm.answers:
        result = time_answers(model, tokenizer, content["prompts"][: arm.answers], settings, wait)
    else:
        rows = [Row(**row) for row in content["rows"]]
        if arm.all_tokens:
            rows = [dataclasses.replace(row, completion_mask=[1] * len(row.input_ids)) for row in rows]
        result = time_training(model, tokenizer, rows, settings, arm.steps, wait)
    write_text(Path(job["out"]), json.dumps({"weights_gib": weights, **result}))


def loaded_gib() -> float:
    """What the model takes of the GPU's memory; of this process's without one."""
    if machine.gpu() is None:
        return round(memory.peak_memory_gib(), 4)
    import torch

    return round(torch.cuda.memory_allocated() / machine.GIB, 4)


def time_training(
    model: Any, tokenizer: Any, rows: Sequence[Row], settings: RunConfig, steps: int, wait: Callable[[], None]
) -> dict[str, Any]:
    """Some steps of training, with losses and memory; timed after `wait`, but for the step that fills the memory pool again."""
    import torch

    from helpers import trainer
    from helpers.meter import Stopwatch

    shape = trainer.Shape(
        per_device_train_batch_size=settings.per_device_train_batch_size,
        gradient_accumulation_steps=settings.train_batch_size // settings.per_device_train_batch_size,
        gradient_checkpointing=settings.gradient_checkpointing,
    )
    untimed = min(UNTIMED_STEPS, steps - 1)
    watch = Stopwatch({untimed - 1: wait})
    with tempfile.TemporaryDirectory() as folder:
        dataset = trainer.dataset_of(rows, settings)
        made = trainer.make_trainer(
            model, tokenizer, dataset, settings, Run(Path(folder)), shape, max_steps=steps, save_strategy="no"
        )
        made.add_callback(watch)
        memory.reset_peak_memory()
        made.train()
    timed = watch.steps[untimed:]
    state = [value for entry in made.optimizer.state.values() for value in entry.values() if isinstance(value, torch.Tensor)]
    return {
        "seconds_per_step": round(statistics.median(seconds for seconds, _ in timed), 5),
        "tokens_per_second": round(sum(tokens for _, tokens in timed) / sum(seconds for seconds, _ in timed), 1),
        "peak_memory_gib": round(watch.peaks[:PEAK_STEPS][-1], 4),
        "optimizer_mib": round(sum(value.numel() * value.element_size() for value in state) / 2**20, 3),
        "losses": [round(loss, 5) for loss in watch.losses],
    }


def time_answers(
    model: Any, tokenizer: Any, prompts: Sequence[tuple[list[int], int]], settings: RunConfig, wait: Callable[[], None]
) -> dict[str, Any]:
    """Answers as long as gold's, timed after `wait`."""
    from helpers import generation

    ids, lengths = [one for one, _ in prompts], [length for _, length in prompts]
    options = {"max_new_tokens": max(lengths), "batch_size": settings.per_device_eval_batch_size}
    generation.answer(model, tokenizer, ids[:2], lengths=[2, 2], **options)  # compiles
    wait()
    memory.reset_peak_memory()
    begin = time.perf_counter()
    generation.answer(model, tokenizer, ids, lengths=lengths, **options)
    memory.synchronize()
    seconds = time.perf_counter() - begin
    return {
        "questions": len(ids),
        "seconds": round(seconds, 4),
        "tokens_in": sum(map(len, ids)),
        "tokens_out": sum(lengths),
        "tokens_per_second": round(sum(lengths) / seconds, 1),
        "peak_memory_gib": round(memory.peak_memory_gib(), 4),
    }


if __name__ == "__main__":
    main(sys.argv[1])
