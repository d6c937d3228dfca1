"""The configuration of a run: one frozen dataclass that records where every value comes from."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helpers
from helpers.run.parameters import as_type, nearest

if typing.TYPE_CHECKING:
    import pandas as pd

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PROMPT_PARTS = ("order", "values", "lists", "question_first")
STAGES = ("setup", "data", "model", "train", "evaluate")  # one notebook each, in the order of the course
LLAMA = "unsloth/Llama-3.2-1B-Instruct"  # Unsloth's ungated copy: the meta-llama original answers students with a 401


def setting(
    default: Any, stage: str, purpose: str, *, unit: str = "", low: float | None = None, choices: tuple | None = None
) -> Any:
    """A field of RunConfig: its default, the first notebook that uses it, its meaning, unit and permitted range."""
    metadata = {"stage": stage, "purpose": purpose, "unit": unit, "low": low, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides what a run produces. Field names are those of Unsloth, TRL and PEFT where they have one.

    The defaults are the published recipe (preset `seed`). `preset` and `origin` say where values come from and are not compared.

    Raises:
        ValueError: a value has the wrong type, is out of range, or contradicts another.
    """

    # data
    data_source: str = setting(
        "spider", "data", "'spider', 'sample' (demo data), or a folder of your own questions and databases"
    )
    prompt_style: str = setting(
        "schema",
        "data",
        "schema above the question; question only; or linked: schema ordered by the question, SQL as IR",
        choices=("schema", "question_only", "linked"),
    )
    prompt_parts: tuple[str, ...] = setting(
        PROMPT_PARTS,
        "data",
        "parts of a linked prompt: order by the question, matching cells, short value lists, the question first as well",
        choices=PROMPT_PARTS,
    )
    readable_names: bool = setting(True, "data", "linked prompts use the display names of tables.json where it has some")
    prompts_per_example: int = setting(
        1, "data", "linked prompts made of each training example; all but the first are shuffled", unit="prompts", low=1
    )
    renamed: float = setting(0.0, "data", "share of the shuffled prompts whose tables and columns get other names", low=0)
    held_out_databases: int = setting(
        0, "data", "train databases kept from training and judged in place of dev, to choose settings by", low=0
    )
    model_name: str = setting(LLAMA, "data", "Hub name or folder of the model to start from")
    model_revision: str = setting("main", "data", "commit, branch or tag of model_name on the Hub; main is the newest")
    max_seq_length: int = setting(
        1024, "data", "prompt and completion together; longer training examples are dropped", unit="tokens", low=16
    )
    train_examples: int = setting(0, "data", "training examples drawn at random; 0 takes all", unit="examples", low=0)
    seed: int = setting(3407, "data", "seed of every random choice: order, initial adapter weights, samples", low=0)
    # model and adapter
    engine: str = setting(
        "auto",
        "model",
        "library that loads and trains; auto is unsloth on a CUDA GPU",
        choices=("auto", "unsloth", "transformers"),
    )
    load_in_4bit: bool = setting(True, "model", "hold the frozen weights in 4 bits (QLoRA); needs a CUDA GPU")
    precision: str = setting(
        "auto", "model", "dtype; auto: bf16 if the GPU has it, else fp16; CPU fp32", choices=("auto", "bf16", "fp16", "fp32")
    )
    r: int = setting(16, "model", "rank of the adapter's two matrices", low=1)
    lora_alpha: int = setting(16, "model", "scale: the adapter's output counts lora_alpha / r times", low=1)
    lora_dropout: float = setting(0.0, "model", "share of adapter inputs zeroed in training", low=0)
    target_modules: tuple[str, ...] = setting(PROJECTIONS, "model", "layers that get an adapter")
    gradient_checkpointing: str = setting(
        "unsloth",
        "model",
        "recompute activations instead of storing them; auto only where memory is short",
        choices=("unsloth", "standard", "off", "auto"),
    )
    # training
    train_batch_size: int = setting(8, "train", "batch size: examples behind one optimiser step", unit="examples", low=1)
    per_device_train_batch_size: int = setting(
        0, "train", "micro-batch: examples in one forward pass; 0 takes the fastest that fits", unit="examples", low=0
    )
    train_sampling_strategy: str = setting(
        "random", "train", "order of the examples; by length, little is padded", choices=("random", "group_by_length")
    )
    max_steps: int = setting(100, "train", "optimiser steps; 0 leaves it to num_train_epochs", unit="steps", low=0)
    num_train_epochs: float = setting(1.0, "train", "passes over the training prompts where max_steps is 0", low=0)
    learning_rate: float = setting(2e-4, "train", "peak learning rate, after the warm-up", low=0)
    lr_scheduler_type: str = setting(
        "linear", "train", "how the rate falls after the warm-up", choices=("linear", "cosine", "constant")
    )
    warmup_steps: int = setting(10, "train", "steps over which the learning rate rises from 0", unit="steps", low=0)
    weight_decay: float = setting(0.01, "train", "pull of the adapter's weights towards 0", low=0)
    optim: str = setting(
        "adamw_8bit",
        "train",
        "optimiser; 8-bit moments take a quarter of the memory",
        choices=("adamw_8bit", "adamw_torch", "adamw_torch_fused"),
    )
    packing: bool = setting(False, "train", "fill rows of max_seq_length with whole examples, which do not see each other")
    save_steps: int = setting(50, "train", "steps between checkpoints, from which a killed run resumes", unit="steps", low=1)
    # evaluation
    eval_questions: int = setting(0, "evaluate", "dev questions drawn at random; 0 takes all", unit="questions", low=0)
    max_new_tokens: int = setting(192, "evaluate", "length at which an answer is cut", unit="tokens", low=1)
    constrained: bool = setting(False, "evaluate", "grammar-constrained decoding of linked prompts: only names in the schema")
    candidates: int = setting(
        1, "evaluate", "queries found by beam search, of which execution-guided selection takes one; 1 is greedy", low=1
    )
    rerank_weight: float = setting(
        0.0, "evaluate", "weight of the noisy-channel reranker, a second adapter; 0 trains and uses none", low=0
    )
    per_device_eval_batch_size: int = setting(
        0, "evaluate", "questions answered together; 0 takes as many as fit", unit="questions", low=0
    )
    query_timeout: float = setting(5.0, "evaluate", "time after which a query is stopped", unit="s", low=0.01)
    num_processes: int = setting(
        1,
        "evaluate",
        "processes that train and answer together, one GPU each; the results are those of one, up to rounding",
        unit="processes",
        low=1,
    )

    preset: str = dataclasses.field(default="seed", compare=False)
    origin: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for field in settings_fields():
            object.__setattr__(self, field.name, checked(field.name, getattr(self, field.name)))
        if self.rerank_weight and self.candidates == 1:
            raise ValueError("rerank_weight chooses among candidates: set candidates to 2 or more, or rerank_weight to 0")
        if self.max_steps == 0 and self.num_train_epochs == 0:
            raise ValueError("max_steps=0 and num_train_epochs=0 leave nothing to train: set one of them")
        self.batch_share(self.num_processes)

    def batch_share(self, processes: int) -> int:
        """Return how many examples of an optimiser step fall to each of several processes.

        Raises:
            ValueError: the batch cannot be split evenly.
        """
        if self.train_batch_size % processes:
            raise ValueError(
                f"train_batch_size={self.train_batch_size} cannot be split evenly among {processes} processes: change "
                "num_processes, or train_batch_size in a new run"
            )
        return self.train_batch_size // processes

    @property
    def decoding(self) -> str:
        """How the tuned model's answers are found, in the field's terms."""
        terms = [f"{self.candidates} beams, execution-guided selection" if self.candidates > 1 else "greedy"]
        if self.constrained and self.prompt_style == "linked":
            terms.append("grammar-constrained")
        if self.rerank_weight:
            terms.append(f"noisy-channel reranker (weight {self.rerank_weight:g})")
        return ", ".join(terms)

    def steps(self, examples: int) -> int:
        """Return the optimiser steps of the whole training, given the number of training prompts."""
        if self.max_steps:
            return self.max_steps
        return max(1, math.ceil(self.num_train_epochs * math.ceil(examples / self.train_batch_size)))

    def values(self) -> dict[str, Any]:
        """Return name and value of every setting, ready for JSON."""
        values = {field.name: getattr(self, field.name) for field in settings_fields()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def with_overrides(self, overrides: Mapping[str, Any], origin: str) -> RunConfig:
        """Return a copy with some values replaced; None keeps a value. `origin` says where the new values come from."""
        given = {name: checked(name, value) for name, value in overrides.items() if value is not None}
        return dataclasses.replace(self, **given, origin=dict(self.origin) | dict.fromkeys(given, origin))

    def table(self, stage: str | None = None) -> pd.DataFrame:
        """Return the settings in force as a pandas table: value, unit, purpose, where it comes from.

        Args:
            stage: one of STAGES, for the settings that are first used there; None for all.
        """
        import pandas as pd

        pd.set_option("display.max_colwidth", None)  # it would cut the purposes short
        rows = [
            {
                "parameter": field.name,
                "value": ", ".join(value) if isinstance(value, tuple) else str(value),
                "unit": field.metadata["unit"],
                "purpose": field.metadata["purpose"],
                "from": self.origin.get(field.name, f"preset {self.preset}"),
            }
            for field in settings_fields()
            for value in [getattr(self, field.name)]
            if stage in (None, field.metadata["stage"])
        ]
        return pd.DataFrame(rows, columns=["parameter", "value", "unit", "purpose", "from"]).set_index("parameter")


def settings_fields() -> list[dataclasses.Field]:
    """Return the fields of RunConfig that a user may set, in order."""
    return [field for field in dataclasses.fields(RunConfig) if "stage" in field.metadata]


@functools.cache
def setting_types() -> dict[str, Any]:
    """Return the type of every setting. Python finds it by evaluating the annotation, so it is done once."""
    return typing.get_type_hints(RunConfig)


def stage_of(name: str) -> str:
    """Return the first notebook (one of STAGES) whose results depend on a setting."""
    return {field.name: field.metadata["stage"] for field in settings_fields()}[name]


def checked(name: str, value: Any) -> Any:
    """Convert a setting's value to its type and check its range.

    Papermill passes on what YAML makes of a command line: `-y "lr: 3e-4"` arrives as the string '3e-4', and `-p resume false` as
    'false', which Python takes for true. So numeric strings become numbers, and 'false' is refused.

    Raises:
        ValueError: no setting has this name, or its value has the wrong type or is out of range.
    """
    fields = {field.name: field for field in settings_fields()}
    if name not in fields:
        raise ValueError(f"No parameter is called {name!r}.{suggestion(name, fields)}")
    metadata = fields[name].metadata
    if value is False and "off" in (metadata["choices"] or ()):  # YAML's off
        value = "off"
    value = as_type(name, value, setting_types()[name])
    for one in value if isinstance(value, tuple) else (value,):
        if metadata["choices"] and one not in metadata["choices"]:
            near = nearest(str(one), map(str, metadata["choices"]))
            raise ValueError(f"{name}={one!r} is not one of {', '.join(map(repr, metadata['choices']))}.{near}")
    if metadata["low"] is not None and value is not None and not metadata["low"] <= value < float("inf"):
        raise ValueError(f"{name}={value!r} is out of range: it must be a finite number, at least {metadata['low']}")
    return value


def portable(value: Any) -> Any:
    """Return a setting as a record keeps it: absolute paths are cut to their last part, because records travel."""
    if isinstance(value, list):
        return [portable(one) for one in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value


# ---- settings of older versions

RENAMED = {
    "question_weight": "rerank_weight",
    "train_variants": "prompts_per_example",
    "gradient_accumulation_steps": "train_batch_size",
}
# Settings that are gone. They are passed over with the value given here, or with any value where that is None.
REMOVED: dict[str, Any] = {
    "date_string": "26 Jul 2024",
    "gpu_memory_gib": None,
    "dataloader_pin_memory": None,
    "held_out_part": 0,
    "rereadings": 0,
    "twin_weight": 0,
    "verifier_weight": 0,
    "verifier_runs": None,
    "ensemble_runs": [],
}


def suggestion(name: str, known: typing.Iterable[str]) -> str:
    """Return what to write in place of an unknown parameter: today's name of an older one, else the nearest."""
    if name in RENAMED:
        now = {"train_batch_size": " (examples a step, all micro-batches together)"}.get(RENAMED[name], "")
        return f" It is now {RENAMED[name]!r}{now}."
    return " It was removed in 0.2.0." if name in REMOVED else nearest(name, known)


def upgrade(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return an older version's stored settings under their current names.

    Raises:
        ValueError: a removed setting has a value that no code obeys any more.
    """
    for name, neutral in REMOVED.items():
        if neutral is not None and name in values and values[name] != neutral:
            raise ValueError(
                f"This run was made with {name}={values[name]!r}, which 0.2.0 removed: use version 0.1.0, or start a new run"
            )
    kept = {RENAMED.get(name, name): value for name, value in values.items() if name not in REMOVED}
    if "gradient_accumulation_steps" in values:  # it counted micro-batches, or examples where their size was left open
        kept["train_batch_size"] = max(1, values.get("per_device_train_batch_size", 0)) * values["gradient_accumulation_steps"]
    return kept


def from_file(content: Any, file: str, key: str) -> RunConfig:
    """Return the configuration in a run folder's or an exported model's JSON file, also of an older version.

    Args:
        content: of the file.
        file: its name, for errors.
        key: where the settings stand.

    Raises:
        ValueError: the file is another program's, or damaged, or a newer version's; the message names it and its version.
    """
    try:
        values, preset, origin = content[key], content.get("preset", "seed"), content.get("origin")
        version = content.get("version", "0.2.0 or older")
        if not isinstance(values, dict) or not isinstance(preset, str) or not isinstance(version, str):
            raise TypeError
        settings = from_stored(values, preset, dict(origin or {}))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} holds no settings of this project: it is damaged, or another program's") from error
    except ValueError as error:
        raise ValueError(f"{file}, written by version {version} (this is {helpers.__version__}): {error}") from error
    return settings


def from_stored(values: Mapping[str, Any], preset: str = "seed", origin: Mapping[str, str] | None = None) -> RunConfig:
    """Return the configuration that a run folder or an exported model stores, also of an older version.

    Raises:
        ValueError: as `upgrade`, or a value is out of range.
    """
    names = {field.name for field in settings_fields()} | REMOVED.keys() | RENAMED.keys()
    if unknown := [str(name) for name in values if name not in names]:
        raise ValueError(f"this version does not know {', '.join(unknown[:5])}: update this project, or start a new run")
    known = {RENAMED.get(name, name): source for name, source in (origin or {}).items() if name not in REMOVED}
    return RunConfig(preset=preset, origin=known, **upgrade(values))
