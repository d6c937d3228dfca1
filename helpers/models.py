"""Step 3, Model: load model, adapter and tokenizer, with Unsloth on a CUDA GPU, else with transformers and PEFT."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.run import machine, memory, processes
from helpers.run.config import RunConfig
from helpers.run.folder import OtherConfiguration
from helpers.sources import model_files
from helpers.sources.model_files import CHATML, ModelFiles, ModelNotFound

if TYPE_CHECKING:
    import pandas as pd

CONTEXT = 2048  # tokens; the shortest context that Unsloth prepares: dev prompts may be longer than any training example
PADS = ("<|finetune_right_pad_id|>", "<|endoftext|>", "<pad>", "<unk>")  # Llama 3, SmolLM2, others


def check_machine(settings: RunConfig) -> None:
    """Check that this machine can run what the settings ask for, before anything slow.

    Raises:
        ValueError: naming the settings to change.
        NoGpuOnColab: the settings need a GPU, and this Colab runtime has none.
        RuntimeError: Unsloth is asked for without a GPU.
    """
    device = machine.gpu()
    processes.check_count(settings.num_processes)
    if settings.load_in_4bit:
        machine.require_gpu_on_colab()
    if machine.engine(settings.engine) == "unsloth" and settings.precision == "bf16" and not device.has_bf16:
        raise ValueError(
            f"Unsloth does not compute in bf16 on a {device.name}: set engine='transformers' as well to see it emulated"
        )
    if device is None:
        wrong = []
        if settings.load_in_4bit:
            wrong.append("load_in_4bit=True (bitsandbytes computes on GPUs)")
        if machine.precision(settings.precision) == "fp16":
            wrong.append("precision='fp16'")
        if settings.optim == "adamw_8bit":
            wrong.append("optim='adamw_8bit'")
        if wrong:
            raise ValueError(
                f"Preset {settings.preset!r} needs a CUDA GPU for {', '.join(wrong)}.\n"
                "  On this machine, start a new run_dir with preset='cpu'"
            )


def start_engine(settings: RunConfig) -> None:
    """Check the machine and import the engine.

    Call it before anything imports transformers, TRL or PEFT: Unsloth patches them when it is imported.

    Raises: as `check_machine`.
    """
    check_machine(settings)
    if machine.engine(settings.engine) == "unsloth":
        os.environ.setdefault(
            "UNSLOTH_DISABLE_STATISTICS", "1"
        )  # they go to the Hub; without a network Unsloth waits two minutes
        os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(machine.cache_dir() / "unsloth_compiled"))
        import unsloth  # noqa: F401
    from transformers.utils import logging

    logging.disable_progress_bar()  # one for reading weights from the disk


def to_answer(settings: RunConfig) -> RunConfig:
    """Return the settings for a model that will answer. Several candidates need transformers: Unsloth has no beam search."""
    return settings.with_overrides({"engine": "transformers"}, "beam search") if settings.candidates > 1 else settings


def load_tokenizer(files: ModelFiles) -> Any:
    """Return the tokenizer, with a pad token inside the vocabulary and a chat template that adds no system turn of its own.

    Raises:
        ModelNotFound: it has no chat template, so it belongs to a pretrained model and not to one that follows instructions.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(files.folder)
    if not tokenizer.chat_template:
        raise ModelNotFound(f"{files.folder.name} has no chat template: take the Instruct version of the model")
    if "named SmolLM" in tokenizer.chat_template:
        tokenizer.chat_template = CHATML  # its own adds a system turn of 20 tokens to every prompt
    if tokenizer.pad_token is None:
        vocabulary = tokenizer.get_vocab()
        tokenizer.pad_token = next((pad for pad in PADS if pad in vocabulary), tokenizer.eos_token)
    return tokenizer


def load(settings: RunConfig, files: ModelFiles | None = None) -> tuple[Any, Any]:
    """Return the model with a new adapter, and the tokenizer, ready for training.

    The adapter's second matrix starts at zero, so until it is trained the model answers as its base does.

    Args:
        files: the model's files, if they have been found already.

    Raises:
        ModelNotFound: as `model_files.find`.
        ValueError: as `check_machine`.
    """
    start_engine(settings)
    memory.limit_gpu_memory()
    files = files or model_files.find(settings.model_name, settings.model_revision)
    from safetensors import SafetensorError

    try:
        load_weights = load_with_unsloth if machine.engine(settings.engine) == "unsloth" else load_with_transformers
        model = load_weights(settings, files)
    except SafetensorError as error:
        raise ModelNotFound(f"The weights in {machine.short_path(files.folder)} are damaged ({error})") from error
    tokenizer = load_tokenizer(files)
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.max_length = None  # answers are bounded by max_new_tokens, and two bounds make a warning
    return model, tokenizer


def load_with_unsloth(settings: RunConfig, files: ModelFiles) -> Any:
    """Load model and adapter with Unsloth."""
    from unsloth import FastLanguageModel

    model, _ = FastLanguageModel.from_pretrained(
        str(files.folder),
        max_seq_length=max(settings.max_seq_length, CONTEXT),
        load_in_4bit=settings.load_in_4bit,
        dtype=torch_dtype(settings),
    )
    return FastLanguageModel.get_peft_model(
        model,
        r=settings.r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=list(settings.target_modules),
        bias="none",
        use_gradient_checkpointing={"standard": True, "off": False}.get(settings.gradient_checkpointing, "unsloth"),
        random_state=settings.seed,
        max_seq_length=max(settings.max_seq_length, CONTEXT),
    )


def load_with_transformers(settings: RunConfig, files: ModelFiles) -> Any:
    """Load the model with transformers and add an adapter with PEFT."""
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, set_seed

    dtype = torch_dtype(settings)
    options: dict[str, Any] = {"dtype": dtype}
    if settings.load_in_4bit:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        )
    if machine.gpu() is not None:
        options["device_map"] = {"": processes.local_rank()}
    model = AutoModelForCausalLM.from_pretrained(files.folder, **options)
    if settings.load_in_4bit:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=settings.gradient_checkpointing != "off")
    set_seed(settings.seed)
    adapter = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=list(settings.target_modules),
        bias="none",
    )
    model = get_peft_model(model, adapter)
    for parameter in model.parameters():
        if parameter.requires_grad:  # 16-bit adapters would lose small updates, and fp16 ones break the gradient scaler
            parameter.data = parameter.data.to(torch.float32)
    return model


def set_checkpointing(model: Any, on: bool) -> None:
    """Switch gradient checkpointing on (recompute activations in the backward pass) or off (store them)."""
    unsloth = sys.modules.get("unsloth")
    if unsloth is not None:
        model._unsloth_gradient_checkpointing = on  # its trainer restores this before every training
        unsloth.FastLanguageModel.for_training(model, use_gradient_checkpointing=on)
    elif on:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        model.gradient_checkpointing_disable()


def torch_dtype(settings: RunConfig) -> Any:
    """Return the torch type of the settings' arithmetic."""
    import torch

    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[machine.precision(settings.precision)]


def load_trained(settings: RunConfig, adapter: Path) -> tuple[Any, Any]:
    """Return the model with a trained adapter, and the tokenizer.

    Args:
        adapter: its folder, `adapter/` in a run.

    Raises:
        OtherConfiguration: the adapter belongs to another model or has another shape.
    """
    saved = model_files.read_adapter(adapter, settings.r)
    model, tokenizer = load(to_answer(settings))
    # imported after Unsloth, which patches it
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    fresh = get_peft_model_state_dict(model)
    if {name: weights.shape for name, weights in saved.items()} != {name: weights.shape for name, weights in fresh.items()}:
        raise OtherConfiguration(f"{machine.short_path(adapter)} does not fit {settings.model_name} with r={settings.r}")
    set_peft_model_state_dict(model, saved)
    return model, tokenizer


@contextlib.contextmanager
def answering(model: Any, *, base: bool = False) -> Iterator[Any]:
    """Put the model into inference mode within the block; `base` disables its adapter."""
    unsloth = sys.modules.get("unsloth")
    was_training = model.training
    if unsloth is not None:
        unsloth.FastLanguageModel.for_inference(model)
    model.eval()
    try:
        with model.disable_adapter() if base else contextlib.nullcontext():
            yield model
    finally:
        if unsloth is not None:
            unsloth.FastLanguageModel.for_training(model)
        model.train(was_training)


# ---- weights


def weight_table(model: Any) -> pd.DataFrame:
    """Return weights by kind as a pandas table: how many, GiB as loaded, and GiB in 16 and (frozen matrices) 4 bits.

    NF4 takes half a byte a weight and, with double quantisation, 0.127 bits more for its scales. Embeddings, norms and
    the adapter are not quantised.

    Source: Dettmers et al., "QLoRA", 2023, section 3.
    """
    import pandas as pd

    kinds = {"frozen matrices": [0, 0.0], "embeddings and norms": [0, 0.0], "adapter (trained)": [0, 0.0]}
    for name, parameter in model.named_parameters():
        count = weight_count(parameter)
        kind = "adapter (trained)" if "lora_" in name else "frozen matrices" if "_proj" in name else "embeddings and norms"
        kinds[kind][0] += count
        kinds[kind][1] += parameter.numel() * parameter.element_size()
    rows = {}
    for kind, (count, loaded) in kinds.items():
        sixteen = 4 * count if kind.startswith("adapter") else 2 * count
        four = count * (4 + 0.127) / 8 if kind == "frozen matrices" else sixteen
        rows[kind] = {"weights": count, "as loaded (GiB)": loaded, "in 16 bit (GiB)": sixteen, "in 4 bit (GiB)": four}
    table = pd.DataFrame(rows).T
    table.loc["all"] = table.sum()
    table.iloc[:, 1:] /= machine.GIB
    return table.astype({"weights": int})


def weight_count(parameter: Any) -> int:
    """Return how many weights a parameter stands for; bitsandbytes packs two into a byte."""
    packed = getattr(parameter, "quant_state", None)
    return packed.shape.numel() if packed is not None else parameter.numel()


def adapter_weights(model: Any) -> dict[str, Any]:
    """Return a copy of the adapter's weights in main memory, by name."""
    from peft import get_peft_model_state_dict

    return {name: weights.detach().to("cpu", copy=True) for name, weights in get_peft_model_state_dict(model).items()}


def trainable(model: Any) -> tuple[int, int]:
    """Return (weights that training changes, all weights)."""
    counts = [(weight_count(parameter), parameter.requires_grad) for parameter in model.parameters()]
    return sum(count for count, trained in counts if trained), sum(count for count, _ in counts)
