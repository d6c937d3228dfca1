"""The presets: each a named set of parameters, written as its differences from the published recipe (RunConfig's defaults)."""

from __future__ import annotations

import os
from typing import Any

from helpers.run import machine
from helpers.run.config import RunConfig
from helpers.run.parameters import nearest

SMOLLM = "HuggingFaceTB/SmolLM2-135M-Instruct"
TINY = "tiny-random-llama"  # made on the spot by sources.model_files

PRESETS: dict[str, dict[str, Any]] = {
    "seed": {},
    # Linked prompts, SQL without joins, and three prompts of each example, instead of 0.11 of one pass. 16-bit weights: they fit
    # a T4 (2.3 GiB), need no dequantising in every pass, and lose nothing by rounding.
    "full": {
        "prompt_style": "linked",
        "prompts_per_example": 3,
        "r": 64,
        "lora_alpha": 128,
        "load_in_4bit": False,
        "gradient_checkpointing": "auto",
        "train_batch_size": 32,
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
        "train_batch_size": 8,
        "per_device_train_batch_size": 8,
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
        "train_batch_size": 4,
        "per_device_train_batch_size": 4,
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
    """Return the configuration of a preset; `auto` is `seed` with a CUDA GPU, else `cpu`.

    Raises:
        ValueError: there is no such preset.
        machine.NoGpuOnColab: `auto`, `seed` or `full` on a Colab machine without a GPU.
    """
    if name not in (*PRESETS, "auto"):
        near = nearest(name, [*PRESETS, "auto"])
        raise ValueError(f"No preset is called {name!r}.{near} There are: auto, {', '.join(PRESETS)}.")
    if name in ("auto", "seed", "full"):
        machine.require_gpu_on_colab()
    if name == "auto":
        name = "seed" if machine.gpu() is not None else "cpu"
    return RunConfig(preset=name, **PRESETS[name])


def default_preset() -> str:
    """Return the preset that is taken where none is named: the environment variable RUN_PRESET, else `auto`."""
    return os.environ.get("RUN_PRESET") or "auto"
