"""Save a trained adapter with everything needed to use it elsewhere: tokenizer, prompt settings, model card, zip."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import helpers
from helpers.prompts.message import example_prompt
from helpers.run import config, machine
from helpers.run.config import RunConfig
from helpers.run.files import write_text
from helpers.run.folder import Run
from helpers.trainer import batch_size
from helpers.trainer.outcome import Outcome

PROMPT_CONFIG = "prompt_config.json"  # settings that a model's prompts rest on, beside its weights
OLD_PROMPT_CONFIG = "course.json"  # its name until 0.1.0

# By prompt style: what a model knows of a database, and the form of its messages.
PROMPTS = {
    "schema": ("It sees the names of tables and columns.", "a line a table, then the question."),
    "question_only": ("It does not see the database's tables.", "the question alone."),
    "linked": (
        "It sees the names of tables and columns, and cells that match words of the question.",
        "the question, the tables by\nrelevance, and the question again. Its answer is SQL with readable names and without ON.\n"
        "`python -m helpers ask` writes such messages, and turns such answers into SQL that runs.",
    ),
}
# By kind: library, tag, and what the files are.
KINDS = {
    "adapter": ("library_name: peft", "lora", "A LoRA adapter (r={r}, lora_alpha={alpha}) for `{base}`."),
    "merged": ("library_name: transformers", "lora", "`{base}` with a LoRA adapter (r={r}) added to its weights, in 16 bits."),
    "gguf": ("library_name: gguf", "gguf", "`{base}` with a LoRA adapter (r={r}) added to its weights, as GGUF in 16 bits."),
}
LLAMA_LICENCE = """\
- Built with Llama. Llama 3.2 is licensed under the Llama 3.2 Community License, Copyright © Meta Platforms, Inc. All Rights
  Reserved. Whoever passes this adapter on passes that licence on with it, and gives it a name that begins with “Llama”."""
SMOLLM_LICENCE = "- SmolLM2, by Hugging Face, is licensed under the Apache License 2.0."
SPIDER_LICENCE = """\
- Spider (Yu et al., EMNLP 2018) is licensed under CC BY-SA 4.0: name its authors, and share what is built from it alike."""


def save(model: Any, tokenizer: Any, settings: RunConfig, run: Run, outcome: Outcome) -> Path:
    """Write the adapter's folder and its zip into the run folder, and its training into record.json.

    Returns:
        the path of the zip.
    """
    if outcome.new_steps or "train" not in run.record():  # else an earlier call trained it, perhaps elsewhere: that record stands
        engine, precision = machine.engine(settings.engine), machine.precision(settings.precision)
        run.add_to_record(engine=engine, precision=precision, train=outcome.record(), **machine.provenance())
        if (run / batch_size.STORED).is_file():
            run.add_to_record(probe=run.read_json(batch_size.STORED)["tries"])
    with run.new_folder("adapter") as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        written = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        # PEFT writes the folder that the base model was loaded from; on another machine only its name means anything.
        written["base_model_name_or_path"] = config.portable(settings.model_name)
        write_text(folder / "adapter_config.json", json.dumps(written, indent=1) + "\n")
        write_prompt_config(folder, settings, run.record())
    return pack(run)


def add_scores(run: Run) -> None:
    """Write the run's scores into its adapter's card and prompt settings, and into the zip. A run may lack an adapter."""
    if run.has("train"):
        write_prompt_config(run / "adapter", run.config(), run.record())
        pack(run)


def pack(run: Run) -> Path:
    """Write adapter.zip, whole or not at all, and return its path."""
    packed = shutil.make_archive(str(run / ".adapter"), "zip", run / "adapter")
    return Path(packed).replace(run / "adapter.zip")


def write_prompt_config(folder: Path, settings: RunConfig, record: dict[str, Any], kind: str = "adapter") -> None:
    """Write what a model needs to be used elsewhere: settings and scores as JSON, and its card.

    Args:
        kind: "adapter", "merged" or "gguf".
    """
    values = {name: config.portable(value) for name, value in settings.values().items()}
    scores = {name: record[name] for name in ("data_name", "evaluation") if name in record}
    write_text(
        folder / PROMPT_CONFIG,
        json.dumps({"version": helpers.__version__, "settings": values, **scores}, indent=1, ensure_ascii=False) + "\n",
    )
    write_text(folder / "README.md", model_card(settings, record, kind))


def read_prompt_config(folder: Path) -> dict[str, Any] | None:
    """Return the content of a model's prompt settings: `settings`, and where known `data_name` and `evaluation`; else None.

    Raises:
        ValueError: the file is damaged, or another program's.
    """
    for name in (PROMPT_CONFIG, OLD_PROMPT_CONFIG):
        if (folder / name).is_file():
            try:
                content = json.loads((folder / name).read_text(encoding="utf-8"))
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{machine.short_path(folder / name)} is damaged ({error})") from error
            if not isinstance(content, dict):
                raise ValueError(f"{machine.short_path(folder / name)} is no settings file of this project")
            return content | {"file": machine.short_path(folder / name)}
    return None


def model_card(settings: RunConfig, record: dict[str, Any], kind: str = "adapter") -> str:
    """Return the README of a model: how it was made, how good it is, how to ask it, what its licences ask for.

    Args:
        record: a run's record with `train` and `data_name`, and once it was judged `evaluation`.
        kind: as for `write_prompt_config`.
    """
    revision = f", revision `{record['model_revision']}`" if record.get("model_revision") else ""
    trained, base, data = record["train"], config.portable(settings.model_name), record["data_name"]
    library, tag, what = KINDS[kind]
    licences = [
        text
        for text, applies in (
            (LLAMA_LICENCE, "llama-3" in base.lower()),
            (SMOLLM_LICENCE, "smollm2" in base.lower()),
            (SPIDER_LICENCE, data == "Spider"),
        )
        if applies
    ]
    sees, form = PROMPTS[settings.prompt_style]
    return f"""\
---
{library}
base_model: {base}
pipeline_tag: text-generation
tags: [text-to-sql, {tag}]
---
# Text-to-SQL model

{what.format(r=settings.r, alpha=settings.lora_alpha, base=base)} It answers questions about a database in SQL.

- Trained on: {data}.
- Base model: `{base}`{revision}.
- Recipe: preset `{settings.preset}`, {trained["steps"]} steps with batch size {settings.train_batch_size}, learning rate \
{settings.learning_rate:g}, loss on the SQL alone.
- Loss: {trained["first_loss"]:.2f} at the first step, {trained["final_loss"]:.2f} over the last ten.
- {scores_line(settings, record)}
- Limits: it can be wrong. A query that runs may answer another question; run what it writes read-only. It writes
  SQLite's SQL, for questions in English. {sees}

## How to ask it

It was trained on one user message of this form, without a system message: {form}

```
{example_prompt(settings.prompt_style).message("How many concerts did each singer hold?")}
```

## Licences

{chr(10).join(licences) or "- None beyond those of your own model and data."}
"""


def scores_line(settings: RunConfig, record: dict[str, Any]) -> str:
    """Return the model's scores with intervals as a sentence or two."""
    evaluation = record.get("evaluation")
    if not evaluation:
        return "Scores: not judged."
    tuned = evaluation["tuned"]
    before = f"; base model {evaluation['base']['ex']:.1f} %" if "base" in evaluation else ""  # a trial does not judge it
    reranker = " A reranker chose among candidates; it is not in this folder." if settings.rerank_weight else ""
    return (
        f"Execution accuracy {tuned['ex']:.1f} % (95 %: {tuned['ex_low']:.1f} to {tuned['ex_high']:.1f}), exact set match "
        f"{tuned['em']:.1f} %, on {evaluation['questions']:,} dev questions of {record['data_name']}, {evaluation['decoding']}"
        f"{before}.{reranker}"
    )
