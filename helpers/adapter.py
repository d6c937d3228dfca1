"""What a training leaves behind: the adapter, its model card, and a zip to take home."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from helpers import probe, views
from helpers.run import config, machine
from helpers.run.config import RunConfig
from helpers.run.files import write_text
from helpers.run.folder import Run
from helpers.training import Outcome

COURSE = "course.json"
# What a model of each prompt style knows, and how it is asked.
FORMS = {
    "schema": ("from names of tables and columns alone", "a line a table, then the question."),
    "question_only": ("without knowing any table", "the question alone."),
    "linked": (
        "from names of tables and columns and from cells that the question speaks of",
        "the question, the tables by what\nthey have to do with it, and the question again. What it writes has readable "
        "names and no ON:\n`python -m helpers ask` makes such messages, and turns such answers into SQL that runs.",
    ),
}
LLAMA_LICENCE = """\
- Built with Llama. Llama 3.2 is licensed under the Llama 3.2 Community License, Copyright © Meta Platforms, Inc. All Rights
  Reserved. Whoever passes this adapter on passes that licence on with it, and gives it a name that begins with “Llama”."""
SMOLLM_LICENCE = "- SmolLM2, by Hugging Face, is licensed under the Apache License 2.0."
SPIDER_LICENCE = """\
- Spider (Yu et al., EMNLP 2018) is licensed under CC BY-SA 4.0: name its authors, and share what is built from it alike."""


def save(model: Any, tokenizer: Any, settings: RunConfig, run: Run, outcome: Outcome) -> Path:
    """Keep what a training made: its entry in record.json, the adapter with tokenizer and model card, and a zip of it.

    Returns:
        the path of the zip.
    """
    if outcome.new_steps or "train" not in run.record():  # else it was trained before, perhaps elsewhere: its record stands
        engine, precision = machine.engine(settings.engine), machine.precision(settings.precision)
        run.add_to_record(engine=engine, precision=precision, train=outcome.record(), **machine.provenance())
        if (run / probe.STORED).is_file():
            run.add_to_record(probe=run.read_json(probe.STORED)["tries"])
    with run.new_folder("adapter") as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        written = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        # PEFT writes the folder that the base was loaded from; on another machine only its name means anything.
        written["base_model_name_or_path"] = config.portable(settings.model_name)
        write_text(folder / "adapter_config.json", json.dumps(written, indent=1) + "\n")
        write_course(folder, settings, run.record())
    packed = shutil.make_archive(str(run / ".adapter"), "zip", run / "adapter")
    return Path(packed).replace(run / "adapter.zip")


def write_course(folder: Path, settings: RunConfig, record: dict[str, Any], kind: str = "adapter") -> None:
    """Write what a model needs to be used elsewhere: the settings that its prompts rest on, its scores, and its card.

    Args:
        kind: "adapter", "merged" or "gguf".
    """
    values = {name: config.portable(value) for name, value in settings.values().items()}
    known = {name: record[name] for name in ("data_name", "evaluation") if name in record}
    write_text(folder / COURSE, json.dumps({"settings": values, **known}, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / "README.md", model_card(settings, record, kind))


KINDS = {
    "adapter": ("library_name: peft", "lora", "A LoRA adapter (r={r}, lora_alpha={alpha}) for `{base}`."),
    "merged": ("library_name: transformers", "lora", "`{base}` with a LoRA adapter (r={r}) added to its weights, in 16 bits."),
    "gguf": ("library_name: gguf", "gguf", "`{base}` with a LoRA adapter (r={r}) added to its weights, as GGUF in 16 bits."),
}


def model_card(settings: RunConfig, record: dict[str, Any], kind: str = "adapter") -> str:
    """The README of a model: what it is, how it was made, how good it is, how to ask it, what its licences ask for.

    Args:
        record: a run's record with its `train` and `data_name`, and once it was judged its `evaluation`.
        kind: as for `write_course`.
    """
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
    known, form = FORMS[settings.prompt_style]
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
- Recipe: preset `{settings.preset}`, {trained["steps"]} steps with batch size {settings.train_batch_size}, learning rate \
{settings.learning_rate:g}, loss on the SQL alone.
- Loss: {trained["first_loss"]:.2f} at the first step, {trained["final_loss"]:.2f} over the last ten.
- {scores_line(record)}{alone(settings, record)}
- Limits: it can be wrong. A query that runs is not yet one that answers the question; run what it writes read-only. It writes
  SQLite's SQL, for questions in English, {known}.

## How to ask it

It was trained on one user message of this form, without a system message: {form}

```
{example_message(settings)}
```

## Licences

{chr(10).join(licences) or "- None beyond those of your own model and data."}
"""


def scores_line(record: dict[str, Any]) -> str:
    """What the judge said of the tuned model, with intervals."""
    judged = record.get("evaluation")
    if not judged:
        return "Scores: not judged."
    tuned = judged["tuned"]
    before = f"; before training {judged['base']['ex']:.1f} %" if "base" in judged else ""  # a trial leaves that out
    return (
        f"Execution accuracy {tuned['ex']:.1f} % (95 %: {tuned['ex_low']:.1f} to {tuned['ex_high']:.1f}), exact set match "
        f"{tuned['em']:.1f} %, on {judged['questions']:,} dev questions of {record['data_name']}, {judged['decoding']}{before}."
    )


def alone(settings: RunConfig, record: dict[str, Any]) -> str:
    """Whether the scores were reached with the reranker, which is not in this folder, as a sentence to follow them."""
    if not settings.rerank_weight or "evaluation" not in record:
        return ""
    return " A reranker chose among candidates; it is not in this folder."


def example_message(settings: RunConfig) -> str:
    """A user's message as these settings make it, about a small made-up database."""
    return views.example(settings).message("How many concerts did each singer hold?")
