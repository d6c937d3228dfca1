"""Make the tables of README, results/*.md and the notebooks from the records under results/: python -m tools.tables [--check].

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`; everything between the two is replaced.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from helpers.apps import claims
from helpers.run.config import RENAMED
from helpers.run.files import write_text
from helpers.run.folder import OUTPUTS
from helpers.run.machine import ROOT

RESULTS = ROOT / "results"
GPU_RUN, CPU_RUN = "h200-llama-1b-seed", "cpu-sample"  # their times open the notebooks
QUICKSTART = "00_quickstart.ipynb"
BEST = "h100-smollm2-linked"
TRIED = (  # settings that a trial's row shows
    *(
        "prompt_style",
        "prompt_parts",
        "readable_names",
        "prompts_per_example",
        "max_steps",
        "num_train_epochs",
        "renamed",
        "seed",
    ),
    *("load_in_4bit", "engine", "r", "lora_dropout", "learning_rate", "weight_decay"),
)


def read(name: str) -> Any:
    """A JSON file under results/."""
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def records() -> dict[str, dict]:
    """Every record.json under results/ by its folder's name."""
    return {file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob("*/record.json"))}


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(cells)} |" for cells in [head, *rows]]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def interval(score: dict[str, float]) -> str:
    """The 95 % interval of an EX."""
    return f"({score['ex_low']:.1f}-{score['ex_high']:.1f})"


def points(paired: dict[str, float]) -> str:
    """A paired difference with its 95 % interval."""
    return f"{paired['difference']:+.1f} ({paired['low']:+.1f} to {paired['high']:+.1f})"


def model(record: dict) -> str:
    """Preset and model of a run, with what makes it more than its preset."""
    settings = {RENAMED.get(name, name): value for name, value in record["overrides"].items()}
    more = [f"{name}={settings[name]}" for name in ("r", "prompts_per_example") if name in settings]
    more += ["second seed"] * bool(settings.get("twin_weight")) + ["ensemble of 2 runs"] * bool(settings.get("ensemble_runs"))
    return ", ".join([f"`{record['preset']}`", *more, record["model_name"].split("/")[-1]])


def scores() -> str:
    """EX before and after training, a row a run that was judged."""
    head = ["preset and model", "data", "dev questions", "EX before", "EX after (95 %)", "EX on altered copies", "EM after"]
    rows = []
    for name, record in records().items():
        if "random" in record["model_name"]:
            continue  # random weights: for time and memory only
        judged, tuned = record["evaluation"], record["evaluation"]["tuned"]
        seen = f", {judged['seen_databases']} on seen databases" if judged["seen_databases"] else ""
        rows.append(
            [
                model(record),
                f"{record['data_name']}{'*' if record['data_note'] else ''}",
                f"{judged['questions']:,}{seen}",
                f"{judged['base']['ex']:.1f}",
                f"**{tuned['ex']:.1f}** {interval(tuned)}",
                f"{tuned.get('ex_on_copies', tuned['ex']):.1f}",
                f"{tuned['em']:.1f}",
                points(judged["difference"]),
                record["gpu"] or f"{record['cpu_cores']} CPU cores",
                f"[{name}](results/{name}/record.json)",
            ]
        )
    return markdown([*head, "paired difference (95 %)", "machine", "record"], rows)


def ablation() -> str:
    """What each technique adds on dev, cumulative, and what it costs."""
    kept = read(f"{BEST}/ablation.json")
    rows = []
    for one in kept["rows"]:
        known = {name: f"{value:.1f}" for name, value in one.items() if isinstance(value, float)}
        official = ", ".join(known[name] for name in ("ex_official", "em_official") if name in known)
        ex = " ".join([f"**{known['ex']}**", *([interval(one)] if "ex_low" in one else [])])
        seconds = f"{one['seconds']:.0f}" if "seconds" in one else ""
        rows.append([one["technique"], ex, known.get("ex_on_copies", ""), known.get("em", ""), official, seconds])
    if kept["any_candidate_right"] is not None:
        right = f"{kept['any_candidate_right']:.1f}"
        rows.append([f"(oracle@{kept['candidates']}: some candidate is right)", right, "", "", "", ""])
    head = ["technique", "EX (95 %)", "EX on altered copies", "EM", "official evaluator: EX, EM", "seconds for all"]
    return markdown(head, rows)


def wrong() -> str:
    """Where the wrong answers first differ from gold, and the databases that most of them are about."""
    found = read(f"{BEST}/ablation.json")["wrong"]
    rows = [[kind, str(count)] for kind, count in found["by_kind"].items()]
    databases = [f"{name} {count}" for name, count in list(found["by_database"].items())[:6]]
    head = ["first difference", f"of {sum(found['by_kind'].values())} wrong answers"]
    return f"{markdown(head, rows)}\n\nMost are about {', '.join(databases)}."


def ledger() -> str:
    """Every trial: settings that differ, how it was judged, and its paired differences."""
    lines = (RESULTS / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    rows = []
    for record in map(json.loads, lines):
        settings, judged, train = record["overrides"], record["evaluation"], record["train"]
        held_out = settings.get("held_out_databases", 0)
        batch = train["per_device_train_batch_size"] * train["gradient_accumulation_steps"]
        changed = [f"{name}={shown(settings[name])}" for name in TRIED if name in settings]
        rows.append(
            [
                f"`{record['trial']}`",
                ", ".join([f"`{record['preset']}`", *changed]),
                judged["decoding"],
                f"{held_out} train databases held out" if held_out else f"{record['data_name']}, dev",
                f"{train['steps']:,} x {batch}",
                f"{judged['questions']:,}",
                f"{judged['tuned']['ex']:.1f} {interval(judged['tuned'])}",
                "; ".join(f"{points(one)} against `{other}`" for other, one in record.get("against", {}).items()),
            ]
        )
    head = ["trial", "settings that differ", "decoding", "judged on", "steps x batch size", "questions", "EX (95 %)"]
    return markdown([*head, "paired difference (95 %)"], rows)


def shown(value: Any) -> str:
    """A setting's value in a table."""
    return " ".join(value) if isinstance(value, list) else f"{value}"


def judge() -> str:
    """Agreement with the official evaluator, what repairs change, and times."""
    record = read("judge/measured.json")
    rows = []
    for name, title in (("dev", "1,034 dev questions, a real model"), ("altered", "3,000 altered queries")):
        agreed, changed = record["agreement_with_official_quirks"][name], record["changed_by_repairs"][name]
        same = ", ".join(f"{agreed[field]:,}" for field in ("exec", "exact", "hardness"))
        rows.append([title, f"{same} of {agreed['pairs']:,}", f"{changed['exec']}, {changed['exact']}"])
    table = markdown(
        ["", "`--official-quirks` agrees with the official one (EX, EM, hardness)", "changed by repairs (EX, EM)"], rows
    )
    took = record["seconds_for_1034"]
    titles = {"judge_cold": "the judge from a cold start", "judge_warm": "with gold's results cached", "sqlglot": "parsing alone"}
    if "official_script" in took:
        titles["official_script"] = "the official script"
    ratios = ", ".join(f"{title} {took[name] / took['bare_sqlite']:.1f}" for name, title in titles.items())
    return f"{table}\n\nTime for 1,034 dev questions, as a multiple of bare SQLite running the same queries: {ratios} (one run)."


def speed() -> str:
    """Training speed and memory, a row a run on a GPU."""
    rows = []
    for name, record in records().items():
        if not record["gpu"] or record["overrides"].get("ensemble_runs"):
            continue  # absolute times only for hardware that has a name; an ensemble's own training is another row
        trained = record["train"]
        rows.append(
            [
                f"`{record['preset']}`, {record['model_name'].split('/')[-1]}",
                record["gpu"],
                f"{trained['per_device_train_batch_size']} x {trained['gradient_accumulation_steps']}",
                f"{trained['seconds_per_step']:.2f}",
                f"{trained['tokens_per_second']:,.0f}",
                f"{trained['peak_memory_gib']:.2f} GiB",
                f"[{name}](results/{name}/record.json)",
            ]
        )
    return markdown(
        ["preset and model", "GPU", "micro-batch x accumulation", "s/step", "tokens/s", "peak memory", "record"], rows
    )


def benchmark() -> str:
    """The recipe's claims, as measured on a GPU."""
    record = claims.stored()
    rows = [[text, *row] for text, row in claims.claims_table(record["arms"]).iterrows() if row["verdict"] != claims.UNMEASURED]
    table = markdown(["claim", "claimed", f"measured on an {record['gpu']}", "verdict"], rows)
    return f"{table}\n\n{claims.loss_sentence(record['arms'])}."


def own_data() -> str:
    """What training on a database of one's own changes."""
    rows = []
    for name, one in read("own-data/measured.json")["models"].items():
        more = one["less_first"]
        right = [
            f"{score['right']} of {one['questions']} ({score['low']:.0f}-{score['high']:.0f} %)"
            for score in (one["greedy"], one["ask"])
        ]
        rows.append([name, *right, points(more) if more["gained"] + more["lost"] else ""])
    return markdown(["trained on", "right, greedy (95 %)", "right, by `ask` (95 %)", "points more than the first (95 %)"], rows)


def minutes(run: str, notebook: str) -> float:
    """What an executed notebook of a kept run took, by papermill's clock."""
    files = sorted((RESULTS / run).glob("[0-9]*.ipynb")) if notebook == QUICKSTART else [RESULTS / run / notebook]
    return sum(json.loads(file.read_text(encoding="utf-8"))["metadata"]["papermill"]["duration"] for file in files) / 60


def cost(notebook: str) -> str:
    """A notebook's opening table: time and memory on two machines."""
    known = records()
    gpu, cpu = known[GPU_RUN], known[CPU_RUN]
    times = [f"{took:.0f} min" if (took := minutes(run, notebook)) >= 0.95 else "under 1 min" for run in (GPU_RUN, CPU_RUN)]
    rows = [["time", times[0], "≈ at least the same", times[1]]]
    if notebook in (OUTPUTS["train"][1], QUICKSTART):
        memory = f"{gpu['train']['peak_memory_gib']:.1f} GiB"
        rows.append(["peak memory", memory, f"≈ {memory}", f"{cpu['train']['peak_memory_gib']:.1f} GiB"])
    if notebook == QUICKSTART:
        source = "The course's five notebooks together"
    else:
        source = f"Executed: [on the GPU](../results/{GPU_RUN}/{notebook}), [without one](../results/{CPU_RUN}/{notebook})"
    table = markdown(["", f"{gpu['gpu']}, `seed` (measured)", "T4, `seed` (estimated)", "two CPU cores, `cpu` (measured)"], rows)
    return f"{table}\n\n{source}; [how the estimate was made](../results/speed.md#the-estimate-for-a-t4)."


TABLES = {
    "scores": scores,
    "judge": judge,
    "speed": speed,
    "benchmark": benchmark,
    "own": own_data,
    "ablation": ablation,
    "wrong": wrong,
    "ledger": ledger,
}


def fill(text: str, name: str, table: str) -> str:
    """`text` with the table called `name` in its place."""
    return re.sub(
        rf"(<!-- {name} -->).*?(<!-- /{name} -->)", lambda found: f"{found[1]}\n{table}\n{found[2]}", text, flags=re.DOTALL
    )


def pages() -> dict[Path, str]:
    """Each file that holds tables, as it should be."""
    tables = {name: table() for name, table in TABLES.items()}
    made = {}
    for path in (ROOT / "README.md", *sorted(RESULTS.glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        for name, table in tables.items():  # links are relative to the page
            text = fill(text, name, table.replace("](results/", "](") if path.parent == RESULTS else table)
        made[path] = text
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            text = "".join(cell["source"])
            if "<!-- cost -->" in text:
                text = fill(text, "cost", cost(path.name))
            cell["source"] = fill(text, "ablation", tables["ablation"]).splitlines(keepends=True)
        made[path] = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.tables", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a table differs from its records")
    check = parser.parse_args().check
    stale = {path: text for path, text in pages().items() if path.read_text(encoding="utf-8") != text}
    if check and stale:
        sys.exit(f"not what the records say: {', '.join(path.name for path in stale)}; run `make tables`")
    for path, text in stale.items():
        write_text(path, text)
    print(f"{len(stale)} files written")
