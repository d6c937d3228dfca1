"""What a run does: one frozen configuration, its presets, and where every value in force comes from."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import math
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from helpers import environment

if typing.TYPE_CHECKING:
    import pandas as pd

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PROMPT_PARTS = ("order", "values", "lists", "question_first")
STAGES = ("setup", "data", "model", "train", "evaluate")  # a notebook each, in the order of the course
LLAMA = "unsloth/Llama-3.2-1B-Instruct"  # Unsloth's ungated copy: the meta-llama original answers students with a 401
SMOLLM = "HuggingFaceTB/SmolLM2-135M-Instruct"
TINY = "tiny-random-llama"  # made on the spot by helpers.models


def setting(
    default: Any, stage: str, purpose: str, *, unit: str = "", low: float | None = None, choices: tuple | None = None
) -> Any:
    """A field of RunConfig: its default, the first notebook that uses it, its meaning, unit and permitted range."""
    metadata = {"stage": stage, "purpose": purpose, "unit": unit, "low": low, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides what a run produces. Field names are those of Unsloth, TRL and PEFT.

    The defaults are the published recipe (preset `seed`). `preset` and `origin` say where the values come from; they
    take no part in comparisons.

    Raises:
        ValueError: a value is out of range or of the wrong type.
    """

    # what it reads
    data_source: str = setting("spider", "data", "'spider', 'sample', or a folder with your own questions and databases")
    prompt_style: str = setting(
        "schema",
        "data",
        "the schema above the question, the question alone, or the schema linked with the question and SQL without joins",
        choices=("schema", "question_only", "linked"),
    )
    prompt_parts: tuple[str, ...] = setting(
        PROMPT_PARTS,
        "data",
        "what a linked prompt has: tables ordered by the question, matching cells, short lists of values, the question twice",
        choices=PROMPT_PARTS,
    )
    readable_names: bool = setting(True, "data", "in linked prompts, the names for people that tables.json has")
    train_variants: int = setting(
        1, "data", "linked prompts made of each training example, all but one of them shaken", unit="prompts", low=1
    )
    renamed: float = setting(
        0.0, "data", "share of the shaken prompts with other names for tables and columns, in question and answer too", low=0
    )
    held_out_databases: int = setting(
        0, "data", "train databases kept from training and judged in place of dev, to choose settings by", low=0
    )
    model_name: str = setting(LLAMA, "data", "Hub name or folder of the model to start from")
    max_seq_length: int = setting(
        1024, "data", "prompt and completion together; longer examples are dropped", unit="tokens", low=16
    )
    train_examples: int = setting(0, "data", "training examples drawn at random; 0 takes all", unit="examples", low=0)
    seed: int = setting(3407, "data", "of every random choice: order, weights of the adapter, samples", low=0)
    # the model and its adapter
    engine: str = setting(
        "auto",
        "model",
        "who loads and trains; auto is unsloth on a CUDA GPU",
        choices=("auto", "unsloth", "transformers"),
    )
    load_in_4bit: bool = setting(True, "model", "hold the frozen weights in 4 bits (QLoRA); needs a CUDA GPU")
    precision: str = setting(
        "auto",
        "model",
        "of the arithmetic; auto is bf16 where the GPU has it, else fp16",
        choices=("auto", "bf16", "fp16", "fp32"),
    )
    r: int = setting(16, "model", "rank of the adapter's two matrices", low=1)
    lora_alpha: int = setting(16, "model", "the adapter counts lora_alpha / r times", low=1)
    lora_dropout: float = setting(0.0, "model", "share of adapter inputs zeroed in training", low=0)
    target_modules: tuple[str, ...] = setting(
        PROJECTIONS, "model", "layers that get an adapter: the seven projections of a block"
    )
    gradient_checkpointing: str = setting(
        "unsloth",
        "model",
        "recompute activations instead of storing them; auto only where memory is short",
        choices=("unsloth", "standard", "off", "auto"),
    )
    # the training
    per_device_train_batch_size: int = setting(
        0, "train", "examples in one forward pass (the micro-batch); 0 takes the fastest that fits", unit="examples", low=0
    )
    gradient_accumulation_steps: int = setting(
        8, "train", "micro-batches summed before one optimiser step; where their size is left open, examples", low=1
    )
    train_sampling_strategy: str = setting(
        "random",
        "train",
        "order of the examples; by length, little is padded",
        choices=("random", "group_by_length"),
    )
    max_steps: int = setting(100, "train", "optimiser steps; 0 leaves it to num_train_epochs", unit="steps", low=0)
    num_train_epochs: float = setting(1.0, "train", "passes over the training examples, where max_steps is 0", low=0)
    learning_rate: float = setting(2e-4, "train", "its peak, after the warm-up", low=0)
    lr_scheduler_type: str = setting(
        "linear", "train", "how it falls after the warm-up", choices=("linear", "cosine", "constant")
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
    save_steps: int = setting(50, "train", "steps between checkpoints, from which a killed run goes on", unit="steps", low=1)
    # the evaluation
    eval_questions: int = setting(0, "evaluate", "dev questions drawn at random; 0 takes all", unit="questions", low=0)
    max_new_tokens: int = setting(192, "evaluate", "length at which an answer is cut", unit="tokens", low=1)
    constrained: bool = setting(False, "evaluate", "let answers to linked prompts name only what the database has")
    candidates: int = setting(
        1, "evaluate", "queries found for a question by beam search; the likeliest that runs is taken, best with rows", low=1
    )
    rerank_weight: float = setting(
        0.0, "evaluate", "weight of the noisy-channel reranker, a second adapter; 0 trains and uses none", low=0
    )
    per_device_eval_batch_size: int = setting(
        0, "evaluate", "questions answered together; 0 takes as many as fit", unit="questions", low=0
    )
    query_timeout: float = setting(5.0, "evaluate", "time after which a query is stopped", unit="s", low=0.01)
    num_processes: int = setting(
        1, "evaluate", "that train and answer together, a GPU each; no result rests on it", unit="processes", low=1
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
        self.share(self.num_processes)

    @property
    def effective_batch(self) -> int:
        """Examples behind one optimiser step (rows of them, with packing). An automatic micro-batch leaves it as it is."""
        return max(1, self.per_device_train_batch_size) * self.gradient_accumulation_steps

    def share(self, processes: int) -> int:
        """Examples of one optimiser step for each of several processes.

        Raises:
            ValueError: they cannot be shared out evenly.
        """
        if self.effective_batch % processes:
            raise ValueError(
                f"{self.effective_batch} examples a step cannot be shared out evenly among {processes} processes: change "
                "num_processes, or gradient_accumulation_steps in a new run"
            )
        return self.effective_batch // processes

    @property
    def decoding(self) -> str:
        """How the tuned model's answers are found, in words."""
        words = [f"{self.candidates} beams, execution-guided selection" if self.candidates > 1 else "greedy"]
        if self.constrained and self.prompt_style == "linked":
            words.append("grammar-constrained")
        if self.rerank_weight:
            words.append(f"noisy-channel reranker (weight {self.rerank_weight:g})")
        return ", ".join(words)

    def steps(self, examples: int) -> int:
        """Optimiser steps of the whole training, given how many examples there are."""
        if self.max_steps:
            return self.max_steps
        return max(1, math.ceil(self.num_train_epochs * math.ceil(examples / self.effective_batch)))

    def values(self) -> dict[str, Any]:
        """Name and value of every setting, ready for JSON."""
        values = {field.name: getattr(self, field.name) for field in settings_fields()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def with_overrides(self, overrides: Mapping[str, Any], origin: str) -> RunConfig:
        """The same configuration with some values replaced; None keeps a value."""
        given = {name: checked(name, value) for name, value in overrides.items() if value is not None}
        return dataclasses.replace(self, **given, origin=dict(self.origin) | dict.fromkeys(given, origin))

    def table(self, stage: str | None = None) -> pd.DataFrame:
        """The settings in force as a pandas table: value, unit, purpose, where it comes from.

        Args:
            stage: one of STAGES: only the settings that are first used there. None: all.
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
    """The fields of RunConfig that a user may set, in order."""
    return [field for field in dataclasses.fields(RunConfig) if "stage" in field.metadata]


def stage_of(name: str) -> str:
    """The first notebook (one of STAGES) whose results rest on a setting."""
    return {field.name: field.metadata["stage"] for field in settings_fields()}[name]


# What older runs call their settings, and the settings that are gone: whatever value they have (None), or if it is this one.
RENAMED = {"question_weight": "rerank_weight"}
GONE: dict[str, Any] = {
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


def modern(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that an older version kept, by their names of today.

    Raises:
        ValueError: a setting that is gone has a value that no code obeys any more.
    """
    for name, neutral in GONE.items():
        if neutral is not None and name in values and values[name] != neutral:
            raise ValueError(
                f"This was made with {name}={values[name]!r}, which 0.2.0 no longer has: use version 0.1.0, or start a new run"
            )
    return {RENAMED.get(name, name): value for name, value in values.items() if name not in GONE}


def from_stored(values: Mapping[str, Any], preset: str = "seed", origin: Mapping[str, str] | None = None) -> RunConfig:
    """The configuration that a run folder or an exported model keeps.

    Raises:
        ValueError: as `modern`, or a value is out of range.
    """
    known = {RENAMED.get(name, name): place for name, place in (origin or {}).items() if name not in GONE}
    return RunConfig(preset=preset, origin=known, **modern(values))


# Each preset as its differences from the published recipe, which RunConfig's defaults spell out.
PRESETS: dict[str, dict[str, Any]] = {
    "seed": {},
    # Linked prompts, SQL without joins, and three prompts of each example, instead of 0.11 of one pass. 16-bit weights: they fit
    # a T4 (2.3 GiB), save undoing the 4 bits in every pass, and lose nothing by rounding.
    "full": {
        "prompt_style": "linked",
        "train_variants": 3,
        "r": 64,
        "lora_alpha": 128,
        "load_in_4bit": False,
        "gradient_checkpointing": "auto",
        "gradient_accumulation_steps": 32,
        "train_sampling_strategy": "group_by_length",
        "optim": "adamw_torch_fused",
        "max_steps": 0,
        "num_train_epochs": 1.0,
        "learning_rate": 3e-4,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 30,
        "save_steps": 200,
        "constrained": True,
        "candidates": 8,
        "rerank_weight": 0.7,
    },
    # Sized for two cores: float32 (bf16 is far slower there), short rows, a learning rate that fits so few steps.
    "cpu": {
        "model_name": SMOLLM,
        "data_source": "sample",
        "prompt_style": "linked",
        "max_seq_length": 384,
        "engine": "transformers",
        "load_in_4bit": False,
        "precision": "fp32",
        "gradient_checkpointing": "off",
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "max_steps": 80,
        "learning_rate": 2e-3,
        "warmup_steps": 5,
        "optim": "adamw_torch",
        "save_steps": 20,
        "eval_questions": 60,
        "max_new_tokens": 64,
        "constrained": True,
        "per_device_eval_batch_size": 15,
    },
    "smoke": {
        "model_name": TINY,
        "data_source": "sample",
        "max_seq_length": 256,
        "train_examples": 24,
        "engine": "transformers",
        "load_in_4bit": False,
        "precision": "fp32",
        "gradient_checkpointing": "off",
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "max_steps": 4,
        "warmup_steps": 1,
        "optim": "adamw_torch",
        "save_steps": 2,
        "eval_questions": 6,
        "max_new_tokens": 12,
        "per_device_eval_batch_size": 4,
    },
}


def preset(name: str) -> RunConfig:
    """The configuration of a preset by its name; `auto` is `seed` with a CUDA GPU, else `cpu`.

    Raises:
        ValueError: there is no such preset.
        NoGpuOnColab: `auto`, `seed` or `full` on a Colab machine without a GPU.
    """
    if name not in (*PRESETS, "auto"):
        raise ValueError(
            f"No preset is called {name!r}.{nearest(name, [*PRESETS, 'auto'])} There are: auto, {', '.join(PRESETS)}."
        )
    has_gpu = environment.gpu() is not None
    if name in ("auto", "seed", "full"):
        environment.require_gpu_on_colab(has_gpu)
    name = ("seed" if has_gpu else "cpu") if name == "auto" else name
    return RunConfig(preset=name, **PRESETS[name])


def default_preset() -> str:
    """What an unnamed preset stands for: the environment variable RUN_PRESET, else `auto`."""
    return os.environ.get("RUN_PRESET") or "auto"


def refuse_unknown_parameters(known: set[str]) -> None:
    """Refuse a parameter that papermill handed to a notebook which does not know it; papermill itself only warns.

    papermill puts what it was given into a cell of its own, which begins with `# Parameters`.

    Raises:
        ValueError: naming the nearest parameter of this notebook.
    """
    for cell in environment.injected_cells():
        for name in [target.id for node in ast.parse(cell).body if isinstance(node, ast.Assign) for target in node.targets]:
            if name not in known:
                there = ", ".join(sorted(known))
                raise ValueError(f"No parameter is called {name!r} here.{nearest(name, known)} There are: {there}")


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """' Did you mean …?' for a name close to a known one, else nothing."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


def checked(name: str, value: Any) -> Any:
    """A setting's value, turned into its type and found within its range.

    papermill hands over what YAML makes of a command line: `-y "lr: 3e-4"` arrives as the string '3e-4', and
    `-p resume false` as 'false', which Python takes for true. So numeric strings become numbers, and 'false' is refused.

    Raises:
        ValueError: no setting has this name, or its value has the wrong type or is out of range.
    """
    fields = {field.name: field for field in settings_fields()}
    if name not in fields:
        raise ValueError(f"No parameter is called {name!r}.{nearest(name, fields)}")
    metadata = fields[name].metadata
    value = as_type(name, value, typing.get_type_hints(RunConfig)[name])
    for one in value if isinstance(value, tuple) else (value,):
        if metadata["choices"] and one not in metadata["choices"]:
            near = nearest(str(one), map(str, metadata["choices"]))
            raise ValueError(f"{name}={one!r} is not one of {', '.join(map(repr, metadata['choices']))}.{near}")
    if metadata["low"] is not None and value is not None and not metadata["low"] <= value < float("inf"):
        raise ValueError(f"{name}={value!r} is out of range: it must be a finite number, at least {metadata['low']}")
    return value


def as_type(name: str, value: Any, wanted: Any) -> Any:
    """`value` as the type `wanted` (bool, int, float, str, a tuple of str, or one of them or None)."""
    options = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)
    if value is None and type(None) in options:
        return None
    wanted = options[0]
    if typing.get_origin(wanted) is tuple:
        value = value.replace(",", " ").split() if isinstance(value, str) else value
        if not isinstance(value, (list, tuple)) or not value or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{name}={value!r} must be a list of names")
        return tuple(value)
    if wanted is bool:
        if isinstance(value, bool):
            return value
        hint = f": write {value.capitalize()}" if str(value).lower() in ("true", "false") else ""
        raise ValueError(f"{name}={value!r} must be True or False{hint}")
    if wanted is str:
        if isinstance(value, str) and value.strip():
            return value
        raise ValueError(f"{name}={value!r} must be text")
    if wanted is int and isinstance(value, (int, str)) and str(value).strip().isdecimal():
        return int(value)  # not by way of float, which rounds beyond 53 bits
    try:
        number = float(value) if not isinstance(value, bool) else None
        if number is not None and (wanted is float or number == int(number)):
            return wanted(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{name}={value!r} must be {'a whole number' if wanted is int else 'a number'}")
