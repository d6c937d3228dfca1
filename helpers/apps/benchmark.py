"""Measure variants of the recipe on this machine's GPU, each in a process of its own (python -m helpers.apps.benchmark JOB)."""

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
    from helpers.prompts.tokens import Row

FILE = "benchmark.json"
VARIANT_SECONDS = 300  # after which a variant counts as stuck
UNTIMED_STEPS = 3  # they compile kernels and grow the memory pool; the last of them runs while no other variant prepares
LOSS_STEPS = 10  # of the variants whose losses are compared
PEAK_STEPS = 6  # after which the peak is read: by then all variants with the same batch size have seen the same rows
TRAINING_ROWS = 2000  # more than any variant sees
MODEL_GIB = 2.3  # 16-bit weights of a model with 1B parameters, for which `Variant.gib` stands
CORES_EACH = 2  # CPU cores for each variant that prepares at the same time


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to train, or with `answers` to generate.

    Attributes:
        overrides: settings that differ from the recipe's.
        steps: optimiser steps; the first three are not timed, and the memory peak is that of the first six.
        all_tokens: the loss counts prompts as well.
        answers: time this many answers, each as long as gold's, instead of training.
        gib: GPU memory set aside for it while several variants prepare, for a model with 1B parameters.
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
VARIANTS = (
    Variant(name="8 x 1", overrides=WHOLE, steps=LOSS_STEPS),
    Variant(name="1 x 8", overrides=LITERAL, steps=LOSS_STEPS),
    Variant(name="8 x 1 again", overrides=WHOLE, steps=LOSS_STEPS),
    Variant(name="2 x 4", overrides={"per_device_train_batch_size": 2}),
    Variant(name="16-bit weights", overrides=WHOLE | SIXTEEN),
    Variant(name="16-bit weights, fp16", overrides=WHOLE | SIXTEEN | {"precision": "fp16"}),
    Variant(name="float32", overrides=WHOLE | SIXTEEN | {"precision": "fp32"}),
    Variant(name="fp16", overrides=WHOLE | {"precision": "fp16"}, steps=LOSS_STEPS),
    Variant(name="no checkpointing", overrides=WHOLE | {"gradient_checkpointing": "off"}),
    Variant(name="standard checkpointing", overrides=WHOLE | {"gradient_checkpointing": "standard"}),
    Variant(name="AdamW in 32 bits", overrides=WHOLE | {"optim": "adamw_torch"}),
    Variant(name="packing", overrides=WHOLE | {"packing": True}),
    Variant(name="loss on all tokens", overrides=WHOLE, all_tokens=True),
    Variant(name="without Unsloth", overrides=WHOLE | PLAIN),
    Variant(name="without Unsloth, 1 x 8", overrides=LITERAL | PLAIN),
    Variant(name="full", overrides=FULL, steps=LOSS_STEPS, gib=27),
    Variant(name="full without Unsloth", overrides=FULL | {"engine": "transformers"}, steps=LOSS_STEPS, gib=41),
    Variant(name="one answer at a time", overrides={"per_device_eval_batch_size": 1}, answers=12),
    Variant(name="all answers", overrides={"per_device_eval_batch_size": 0}, answers=1034),
)


def run_all(run: Run, settings: RunConfig) -> dict[str, Any]:
    """Measure all variants with the model and data of a run; prepare the data if 02 Data has not.

    Returns:
        the content of benchmark.json: gpu, versions, and under `arms` the results by variant.
    """
    from helpers import data, models
    from helpers.databases.schema import one_line
    from helpers.sources import model_files

    files = model_files.find(settings.model_name, settings.model_revision)
    tokenizer = models.load_tokenizer(files)
    if not run.has("data"):
        data.write_data(run, data.load(settings), tokenizer, settings)
    rows = data.draw(data.read_training_rows(run, tokenizer), TRAINING_ROWS, settings.seed)
    prompts = []
    for question in data.dev_questions(run, settings):
        gold = tokenizer(one_line(question.example.query), add_special_tokens=False)["input_ids"]
        prompts.append((question.ids(tokenizer), len(gold) + 1))
    recipe = RunConfig(model_name=settings.model_name, data_source=settings.data_source)
    size = sum(file.stat().st_size for file in files.folder.glob("*.safetensors")) / machine.GIB
    measure(VARIANTS, recipe, rows, prompts, run, memory_scale=max(1.0, size / MODEL_GIB))
    return run.read_json(FILE)


def measure(
    variants: Sequence[Variant],
    settings: RunConfig,
    rows: Sequence[Row],
    prompts: Sequence[tuple[list[int], int]],
    run: Run,
    *,
    memory_scale: float = 1.0,
    progress: str = "variants",
) -> dict[str, dict[str, Any]]:
    """Measure variants and write their results into benchmark.json after each: an interrupted benchmark resumes.

    As many variants prepare at a time as fit: they load their models and make their first steps, which compile kernels. Then each
    is measured while nothing else runs.

    Args:
        rows: training examples.
        prompts: (token ids, tokens of gold's answer), for the variants that generate.
        memory_scale: memory of the model relative to one with 1B parameters.

    Returns:
        by variant, for training seconds_per_step, tokens_per_second, weights_gib, peak_memory_gib, optimizer_mib and losses
        (nats/token); for answers seconds, tokens_in, tokens_out, tokens_per_second and peak_memory_gib; for a failure error; for
        all arm_seconds, the time it took after it was ready.
    """
    kept = run.read_json(FILE) if (run / FILE).is_file() else {}
    values = {name: config.portable(value) for name, value in settings.values().items()}
    content = json.dumps({"rows": [dataclasses.asdict(row) for row in rows], "prompts": list(prompts)})
    checksum = hashlib.sha256(content.encode()).hexdigest()
    made_with = {"gpu": machine.provenance()["gpu"], "settings": values, "data_sha256": checksum}
    results: dict[str, dict[str, Any]] = kept["arms"] if kept.get("made_with") == made_with else {}
    waiting = [variant for variant in variants if "error" in results.get(variant.name, {"error": ""})]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as processes:
        shared = write_text(Path(folder, "data.json"), content)
        begin, bar = time.perf_counter(), tqdm(total=len(waiting), desc=progress, unit="variant", disable=not progress)
        for group in rounds(waiting, memory_scale):
            started = [processes.enter_context(Process(variant, settings, shared, Path(folder))) for variant in group]
            for process in started:
                process.wait_until_ready()
            for variant, process in zip(group, started, strict=True):
                released = time.perf_counter()
                result, now = process.result(), time.perf_counter()
                results[variant.name] = result | {"arm_seconds": round(now - released, 1)}
                seconds = round(now - begin, 1)
                run.write_json(FILE, {"made_with": made_with, **machine.provenance(), "seconds": seconds, "arms": results})
                bar.update()
        bar.close()
    return results


def rounds(variants: Sequence[Variant], memory_scale: float = 1.0) -> list[list[Variant]]:
    """Return the variants, in their order, in groups that can prepare together: the GPU has the memory, the CPU the cores."""
    device, most = machine.gpu(), max(1, (os.cpu_count() or 1) // CORES_EACH)
    room = device.memory_gib if device else 0.0
    groups: list[list[Variant]] = []
    for variant in variants:
        group = groups[-1] if groups else []
        if group and len(group) < most and memory_scale * sum(one.gib for one in (*group, variant)) <= room:
            group.append(variant)
        else:
            groups.append([variant])
    return groups


class Process:
    """A variant in a process of its own: it prepares at once, and measures when its result is asked for."""

    def __init__(self, variant: Variant, settings: RunConfig, shared: Path, folder: Path) -> None:
        number = sum(1 for _ in folder.glob("*.job"))
        job, self.ready, self.out, self.log = (folder / f"{number}.{suffix}" for suffix in ("job", "ready", "out", "log"))
        values = settings.with_overrides(variant.overrides, "benchmark").values()
        files = {"shared": str(shared), "ready": str(self.ready), "out": str(self.out)}
        write_text(job, json.dumps({"variant": dataclasses.asdict(variant), "settings": values, **files}))
        self.file = self.log.open("w", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "helpers.apps.benchmark", str(job)],
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
        """Wait until it is ready or has ended, VARIANT_SECONDS at most."""
        deadline = time.monotonic() + VARIANT_SECONDS
        while not self.ready.is_file() and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)

    def result(self) -> dict[str, Any]:
        """Let it measure, and return its result or error."""
        try:
            self.process.communicate(b"go\n", timeout=VARIANT_SECONDS)
        except subprocess.TimeoutExpired:
            return {"error": f"not done after {VARIANT_SECONDS} s"}
        if self.out.is_file():
            return json.loads(self.out.read_text(encoding="utf-8"))
        lines = [line for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line[:1].strip()]
        return {"error": (lines or [f"ended with code {self.process.returncode}"])[-1][:300]}


def main(job_file: str) -> None:
    """Measure one variant: load, make the first steps, wait for a line on standard input, measure, write the result."""
    from helpers import models
    from helpers.prompts.tokens import Row

    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    variant, settings = Variant(**job["variant"]), RunConfig(**job["settings"])
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

    if variant.answers:
        result = time_answers(model, tokenizer, content["prompts"][: variant.answers], settings, wait)
    else:
        rows = [Row(**row) for row in content["rows"]]
        if variant.all_tokens:
            rows = [dataclasses.replace(row, completion_mask=[1] * len(row.input_ids)) for row in rows]
        result = time_training(model, tokenizer, rows, settings, variant.steps, wait)
    write_text(Path(job["out"]), json.dumps({"weights_gib": weights, **result}))


def loaded_gib() -> float:
    """Return the GPU memory that the loaded model takes, in GiB; without a GPU, the memory of this process."""
    if machine.gpu() is None:
        return round(memory.peak_memory_gib(), 4)
    import torch

    return round(torch.cuda.memory_allocated() / machine.GIB, 4)


def time_training(
    model: Any, tokenizer: Any, rows: Sequence[Row], settings: RunConfig, steps: int, wait: Callable[[], None]
) -> dict[str, Any]:
    """Train for some steps; return speed, memory and losses. Timing starts one step after `wait`: that one refills the pool."""
    import torch

    from helpers.trainer.callbacks import StepTimer
    from helpers.trainer.trainer import BatchLayout, make_dataset, make_trainer

    layout = BatchLayout(
        per_device_train_batch_size=settings.per_device_train_batch_size,
        gradient_accumulation_steps=settings.train_batch_size // settings.per_device_train_batch_size,
        gradient_checkpointing=settings.gradient_checkpointing,
    )
    untimed = min(UNTIMED_STEPS, steps - 1)
    timer = StepTimer({untimed - 1: wait})
    with tempfile.TemporaryDirectory() as folder:
        dataset, run = make_dataset(rows, settings), Run(Path(folder))
        trainer = make_trainer(model, tokenizer, dataset, settings, run, layout, max_steps=steps, save_strategy="no")
        trainer.add_callback(timer)
        memory.reset_peak_memory()
        trainer.train()
    timed = timer.steps[untimed:]
    state = [value for entry in trainer.optimizer.state.values() for value in entry.values() if isinstance(value, torch.Tensor)]
    return {
        "seconds_per_step": round(statistics.median(seconds for seconds, _ in timed), 5),
        "tokens_per_second": round(sum(tokens for _, tokens in timed) / sum(seconds for seconds, _ in timed), 1),
        "peak_memory_gib": round(timer.peaks[:PEAK_STEPS][-1], 4),
        "optimizer_mib": round(sum(value.numel() * value.element_size() for value in state) / 2**20, 3),
        "losses": [round(loss, 5) for loss in timer.losses],
    }


def time_answers(
    model: Any, tokenizer: Any, prompts: Sequence[tuple[list[int], int]], settings: RunConfig, wait: Callable[[], None]
) -> dict[str, Any]:
    """Generate answers as long as gold's; return speed and memory. Timing starts after `wait`."""
    from helpers.decoding import generate

    ids, lengths = [prompt for prompt, _ in prompts], [length for _, length in prompts]
    options = {"max_new_tokens": max(lengths), "batch_size": settings.per_device_eval_batch_size}
    generate.greedy_answers(model, tokenizer, ids[:2], lengths=[2, 2], **options)  # compiles
    wait()
    memory.reset_peak_memory()
    begin = time.perf_counter()
    generate.greedy_answers(model, tokenizer, ids, lengths=lengths, **options)
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
