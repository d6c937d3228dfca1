"""The tables of README, results/*.md and notebooks, made from the records under results/: python -m tools.tables [--check].

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`; everything between the two is written anew.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from helpers import claims, config
from helpers.environment import ROOT
from helpers.runs import OUTPUTS, write_text

RESULTS = ROOT / "results"
GPU_RUN, CPU_RUN = "h200-llama-1b-seed", "cpu-sample"  # whose times the notebooks show
LADDER = "h100-smollm2-pooled"  # answers to dev, found and chosen by one more means a row
WORDINGS = "h100-smollm2-linked"  # its first run alone, asked in other words, too
TEN = "on-dev/ten-prompts"  # the same of a model trained half as long, by more means
HELD_OUT = "ledger/twin-6"  # the same for train databases held out from training
TRIED = (
    *("prompt_style", "prompt_parts", "readable_names", "train_variants", "max_steps", "num_train_epochs", "renamed", "seed"),
    *("load_in_4bit", "engine", "precision", "r", "lora_alpha", "lora_dropout", "learning_rate", "weight_decay"),
)
CHANGED = {  # what a trial does otherwise
    "no-order": "tables and columns in no order",
    "no-values": "no matching cells",
    "no-lists": "no lists of values",
    "no-question-first": "the question behind the schema alone",
    "no-names": "identifiers as they are",
    "renamed-3": "other names in half of the shaken prompts",
    "r64-3": "rank 64",
    "faster-3": "rate 1e-3",
    "r64-faster-3": "rank 64, rate 1e-3",
    "steps-of-32-3": "steps of 32, twice as many, rate 5e-4",
    "steps-of-16-3": "steps of 16, four times as many, rate 3.5e-4",
    "float32-3": "float32 weights",
    "dropout-3": "dropout 0.1",
    "weight-decay-3": "weight decay 0.1",
}
SCALED = "h100-scaling"  # measured on two GPUs
SCALINGS = ("in-place", "alone", "calm", "scaling", "earlier")  # its records, the newest first
QUICKSTART = "00_quickstart.ipynb"
LINKS = {  # bytes a second one way, by their makers' figures
    "NVLink of an H200": 450e9,
    "PCIe 4.0, 16 lanes": 32e9,
    "PCIe 3.0, 16 lanes": 16e9,
    "Ethernet, 25 Gbit/s": 25e9 / 8,
}
GPUS = (2, 4, 8)
# Of Llama 3.2 1B: inputs and outputs of a block's seven projections together, and its blocks; their product is a rank's weights.
WIDTHS, BLOCKS = (2048 + 2048) * 2 + (2048 + 512) * 2 + (2048 + 8192) * 3, 16


def records() -> dict[str, dict]:
    """Every record under results/ by its folder's name."""
    return {file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob("*/record.json"))}


def interval(score: dict[str, float]) -> str:
    """The 95 % interval of an EX."""
    return f"({score['ex_low']:.1f}-{score['ex_high']:.1f})"


def scores() -> str:
    """EX before and after training, a row a run that was judged."""
    head = (
        "| preset and model | prompt | data | dev questions | EX before | EX after (95 %) | on copies too | EM after "
        "| paired difference (95 %) | machine | record |"
    )
    lines = [head, "|---|---|---|---|---|---|---|---|---|---|---|"]
    for name, record in records().items():
        if "random" in record["model_name"]:
            continue  # random weights: for time and memory only
        judged = record["evaluation"]
        tuned, paired, seen = judged["tuned"], judged["difference"], judged["seen_databases"]
        cells = (
            ", ".join([f"`{record['preset']}`", *larger(record), record["model_name"].split("/")[-1]]),
            record["prompt_style"],
            f"{record['data_name']}{'*' if record['data_note'] else ''}",
            f"{judged['questions']:,}{f', {seen} on seen databases' if seen else ''}",
            f"{judged['base']['ex']:.1f}",
            f"**{tuned['ex']:.1f}** {interval(tuned)}",
            f"{tuned.get('ex_on_copies', tuned['ex']):.1f}",
            f"{tuned['em']:.1f}",
            f"{paired['difference']:+.1f} ({paired['low']:+.1f} to {paired['high']:+.1f})",
            record["gpu"] or f"{record['cpu_cores']} CPU cores",
            f"[{name}](results/{name}/record.json)",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def larger(record: dict) -> list[str]:
    """What makes a run more than its preset."""
    settings = record["overrides"]
    pooled = [f"{1 + len(settings['ensemble_runs'])} runs pooled"] if settings.get("ensemble_runs") else []
    return [*(f"{name}={settings[name]}" for name in ("r", "train_variants") if name in settings), *pooled]


def ladder() -> str:
    """What each means of finding and choosing an answer adds on dev, and what it costs."""
    return rungs(LADDER)


def ladder_ten() -> str:
    """The same for half as long a training, with rereadings and the verifier."""
    return rungs(TEN)


def ladder_held_out() -> str:
    """The same on train databases held out, with a twin."""
    return rungs(HELD_OUT)


def rungs(folder: str) -> str:
    """The ladder of a run, a row a rung."""
    made = json.loads((RESULTS / folder / "ladder.json").read_text(encoding="utf-8"))
    lines = ["| answers | EX (95 %) | on copies too | EM | by the official evaluator: EX, EM | seconds for all |"]
    lines.append("|---|---|---|---|---|---|")
    for one in made["rungs"]:
        cells = (
            one["rung"],
            f"**{one['ex']:.1f}** {interval(one)}",
            f"{one['ex_on_copies']:.1f}",
            f"{one['em']:.1f}",
            f"{one['ex_official']:.1f}, {one['em_official']:.1f}",
            f"{one['seconds']:.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(f"| (any of the {made['candidates']} right) | {made['any_candidate_right']:.1f} | | | | |")
    if "any_pooled_right" in made:
        lines.append(f"| (any of those pooled right) | {made['any_pooled_right']:.1f} | | | | |")
    return "\n".join(lines)


def budget() -> str:
    """For how many questions a prompt of so many columns holds all that gold needs."""
    found = json.loads((RESULTS / "prompt/budget.json").read_text(encoding="utf-8"))
    parts = {f"{name}, {found[name]['questions']:,} questions": found[name]["widths"] for name in ("train", "dev")}
    lines = [f"| columns at most | {' | '.join(f'{name}: cut | nothing of gold lacking' for name in parts)} |"]
    lines.append(f"|---{'|---' * (2 * len(parts))}|")
    for most in found["train"]["widths"]:
        cells = (f"{widths[most]['cut']:,} | {widths[most]['whole']:,}" for widths in parts.values())
        lines.append(f"| {most} | {' | '.join(cells)} |")
    return "\n".join(lines)


def pooled() -> str:
    """Two runs, each by more means a row, and both pooled."""
    found = json.loads((RESULTS / LADDER / "pooled.json").read_text(encoding="utf-8"))["ex"]
    members = list(next(iter(found.values())))
    lines = [f"| EX (by the official evaluator) | {' | '.join(members)} |", f"|---{'|---' * len(members)}|"]
    for means, scores in found.items():
        cells = (f"{one['ex']:.1f} ({one['ex_official']:.1f})" for one in scores.values())
        lines.append(f"| {means} | {' | '.join(cells)} |")
    return "\n".join(lines)


def wordings() -> str:
    """What other words for dev's questions cost."""
    found = json.loads((RESULTS / WORDINGS / "wordings.json").read_text(encoding="utf-8"))["rules"]
    lines = ["| other words | questions | EX as asked | EX reworded | points (95 %) |", "|---|---|---|---|---|"]
    for rule, one in found.items():
        less = one["difference"]
        both = f"{one['ex_as_they_were']:.1f} | {one['ex_reworded']:.1f}"
        between = f"{less['difference']:+.1f} ({less['low']:+.1f} to {less['high']:+.1f})"
        lines.append(f"| {rule} | {one['questions']:,} | {both} | {between} |")
    return "\n".join(lines)


def wrong() -> str:
    """What the answers that are still wrong differ in first, and the databases that most of them are about."""
    found = json.loads((RESULTS / LADDER / "ladder.json").read_text(encoding="utf-8"))["wrong"]
    total = sum(found["by_kind"].values())
    lines = [f"| differs first in | of {total} wrong answers |", "|---|---|"]
    lines += [f"| {kind} | {count} |" for kind, count in found["by_kind"].items()]
    databases = [f"{name} {count}" for name, count in list(found["by_database"].items())[:6]]
    return "\n".join([*lines, "", f"Most are about {', '.join(databases)}."])


def paired() -> str:
    """What each thing left out or changed in a trial is worth."""
    found = json.loads((RESULTS / "ledger/paired.json").read_text(encoding="utf-8"))["pairs"]
    lines = ["| trial | against | points (95 %) | p (McNemar) |", "|---|---|---|---|"]
    for pair, one in sorted(found.items(), key=lambda item: item[1]["difference"]):
        name, other = pair.split(" against ")
        points = f"{one['difference']:+.1f} ({one['low']:+.1f} to {one['high']:+.1f})"
        p_value = "under 0.001" if one["p_value"] < 0.001 else f"{one['p_value']:.2g}"
        lines.append(f"| {CHANGED[name]} (`{name}`) | `{other}` | {points} | {p_value} |")
    return "\n".join(lines)


def ledger() -> str:
    """Trials on train databases held out from training, by which settings are chosen."""
    return trials("ledger")


def on_dev() -> str:
    """What else was trained and asked dev's questions."""
    return trials("on-dev")


def on_sample() -> str:
    """The recipe's faults brought back, on the embedded sample."""
    return trials("on-sample")


def trials(folder: str) -> str:
    """The records of `tools.trial` in a folder of results/, a row each."""
    lines = [
        "| settings that differ | answers | held out | steps x examples | questions | EX (95 %) | EM | record |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for file in sorted((RESULTS / folder).glob("*/record.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        overrides, name, judged, train = record["overrides"], file.parent.name, record["evaluation"], record["train"]
        held_out = overrides.get("held_out_databases", 0)
        cells = (
            ", ".join([f"`{record['preset']}`", *(f"{one}={shown(overrides[one])}" for one in TRIED if one in overrides)]),
            judged["decoding"],
            f"group {overrides.get('held_out_part', 0)} of {held_out} databases" if held_out else "",
            f"{train['steps']:,} x {train['per_device_train_batch_size'] * train['gradient_accumulation_steps']}",
            f"{judged['questions']:,}",
            f"{judged['tuned']['ex']:.1f} {interval(judged['tuned'])}",
            f"{judged['tuned']['em']:.1f}",
            f"[{name}](results/{folder}/{name}/record.json)",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(value: Any) -> str:
    """A setting's value in a table."""
    return " ".join(value) if isinstance(value, list) else f"{value}"


def judge() -> str:
    """Agreement with the official evaluator, what repairs change, and times."""
    record = json.loads((RESULTS / "judge/measured.json").read_text(encoding="utf-8"))
    lines = [
        "| | with `--official-quirks`, as the official one (EX, EM, hardness) | changed by repairs (EX, EM) |",
        "|---|---|---|",
    ]
    for name, title in (("dev", "1,034 dev questions, a real model"), ("altered", "3,000 altered queries")):
        agreed, changed = record["agreement_with_official_quirks"][name], record["changed_by_repairs"][name]
        same = ", ".join(f"{agreed[field]:,}" for field in ("exec", "exact", "hardness"))
        lines.append(f"| {title} | {same} of {agreed['pairs']:,} | {changed['exec']}, {changed['exact']} |")
    took = record["seconds_for_1034"]
    bare = took["bare_sqlite"]
    shown = {
        "judge_cold": "the judge from a cold start",
        "judge_warm": "the same with gold's results kept",
        "sqlglot": "parsing alone",
    }
    shown |= {"official_script": "the official script"} if "official_script" in took else {}
    ratios = ", ".join(f"{title} {took[name] / bare:.1f}" for name, title in shown.items())
    return "\n".join(
        [
            *lines,
            "",
            f"Time for 1,034 dev questions, as a multiple of what bare SQLite takes for the queries: {ratios} (one run).",
        ]
    )


def speed() -> str:
    """Training speed and memory, a row a run on a GPU."""
    head = "| preset and model | GPU | micro-batches a step | s/step | tokens/s | peak memory | record |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for name, record in records().items():
        if not record["gpu"]:
            continue  # an absolute time only where the machine has a name that others can look up
        if record["overrides"].get("ensemble_runs"):
            continue  # what is kept of an ensemble is its answers; its first run has a row of its own
        trained = record["train"]
        cells = (
            f"`{record['preset']}`, {record['model_name'].split('/')[-1]}",
            record["gpu"],
            f"{trained['gradient_accumulation_steps']} of {trained['per_device_train_batch_size']}",
            f"{trained['seconds_per_step']:.2f}",
            f"{trained['tokens_per_second']:,.0f}",
            f"{trained['peak_memory_gib']:.2f} GiB",
            f"[{name}](results/{name}/record.json)",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def benchmark() -> str:
    """The recipe's claims, as measured on a GPU."""
    record = claims.stored()
    lines = [f"| claim | claimed | measured on an {record['gpu']} | verdict |", "|---|---|---|---|"]
    for text, row in claims.claims_table(record["arms"]).iterrows():
        if row["verdict"] != claims.UNMEASURED:
            lines.append(f"| {text} | {' | '.join(row)} |")
    return "\n".join([*lines, "", f"{claims.loss_sentence(record['arms'])}."])


def scaling() -> str:
    """What several GPUs should bring, on paper: a step's time on one of them, and the gradients that they exchange.

    A step is launching kernels, which more GPUs do not shorten, and arithmetic, which they share. N GPUs in a ring send and
    receive 2 (N - 1) / N of the gradients each, here after the arithmetic, at the link's full speed.
    """
    train = records()["h200-llama-1b-full"]["train"]
    profile = json.loads((RESULTS / "h200-checks" / "measured.json").read_text(encoding="utf-8"))["profile"]
    step, rows = train["seconds_per_step"], train["per_device_train_batch_size"]
    busy = profile["gpu_busy_milliseconds"] / profile["milliseconds_a_step"]
    size = 4 * config.PRESETS["full"]["r"] * WIDTHS * BLOCKS  # float32
    lines = [
        f"| link | exchange of {size / 1e6:.0f} MB between two | {rows} examples a step in all: 2, 4, 8 GPUs "
        f"| {rows} each: 2, 4, 8 GPUs |",
        "|---|---|---|---|",
    ]
    for link, speed in LINKS.items():
        exchange = {gpus: 2 * (gpus - 1) / gpus * size / speed for gpus in GPUS}
        shared = [step / (step * (1 - busy + busy / gpus) + exchange[gpus]) for gpus in GPUS]
        grown = [gpus * step / (step + exchange[gpus]) for gpus in GPUS]
        cells = (link, f"{1000 * exchange[2]:.1f} ms", *(", ".join(f"{one:.1f} x" for one in some) for some in (shared, grown)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def scaled() -> str:
    """What a second GPU brought: each row's two arms measured in one call on one machine."""
    every = {name: json.loads((RESULTS / SCALED / f"{name}.json").read_text(encoding="utf-8")) for name in SCALINGS}
    rows, of_losses = [], every["scaling"]
    batch = of_losses["arms"]["one"]["effective_batch"]
    for text, name, one, two in (
        (f"training, {batch} examples a step for each GPU", "as many each", "one", "two, as many each"),
        (
            f"training, {4 * batch} examples a step",
            "four times the batch",
            *(f"{n}, four times the batch" for n in ("one", "two")),
        ),
        ("1,034 answers", "answers", "answers, one", "answers, two"),
    ):
        for record, found in every.items():
            if found["speedup"][name] is None:  # those arms were left out
                continue
            pair = [found["arms"][arm] for arm in (one, two)]
            speeds = [f"{arm['pace']:,.0f} tokens/s" if "pace" in arm else f"{arm['seconds']:.1f} s" for arm in pair]
            link = f"[{record}](results/{SCALED}/{record}.json), {found['git_commit'][:7]}"
            rows.append(f"| {text} | {' | '.join(speeds)} | **{found['speedup'][name]:.2f}** | {link} |")
    between = {
        "four times the batch": f"one and two GPUs with {4 * batch} examples a step",
        "one/one again": "two runs on one GPU",
    }
    apart = [f"{100 * of_losses['losses'][name]:.2f} % between {text}" for name, text in between.items()]
    head = [f"| {of_losses['gpu']} | one | two | times as fast | record, commit |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows, "", f"Largest difference in loss at one step (scaling): {', '.join(apart)}."])


def own_data() -> str:
    """What training on a database of one's own changes."""
    record = json.loads((RESULTS / "own-data/measured.json").read_text(encoding="utf-8"))
    lines = [
        "| trained on | right, greedy (95 %) | right, as `ask` answers (95 %) | points more than the first (95 %) |",
        "|---|---|---|---|",
    ]
    for name, one in record["models"].items():
        cells = [
            f"{score['right']} of {one['questions']} ({score['low']:.0f}-{score['high']:.0f} %)"
            for score in (one["greedy"], one["ask"])
        ]
        more = one["less_first"]
        cells.append(
            f"{more['difference']:+.1f} ({more['low']:+.1f} to {more['high']:+.1f})" if more["gained"] + more["lost"] else ""
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def minutes(run: str, notebook: str) -> float:
    """What an executed notebook of a kept run took, by papermill's clock."""
    files = sorted((RESULTS / run).glob("[0-9]*.ipynb")) if notebook == QUICKSTART else [RESULTS / run / notebook]
    return sum(json.loads(file.read_text(encoding="utf-8"))["metadata"]["papermill"]["duration"] for file in files) / 60


def cost(notebook: str) -> str:
    """A notebook's opening table: time and memory on two machines."""
    known = records()
    gpu, cpu = known[GPU_RUN], known[CPU_RUN]
    lines = [
        f"| | {gpu['gpu']}, `seed` (measured) | T4, `seed` (estimated) | two CPU cores, `cpu` (measured) |",
        "|---|---|---|---|",
        f"| time | {in_words(minutes(GPU_RUN, notebook))} | ≈ at least the same | {in_words(minutes(CPU_RUN, notebook))} |",
    ]
    if notebook in (OUTPUTS["train"][1], QUICKSTART):
        memory = f"{gpu['train']['peak_memory_gib']:.1f} GiB"
        lines.append(f"| peak memory | {memory} | ≈ {memory} | {cpu['train']['peak_memory_gib']:.1f} GiB |")
    if notebook == QUICKSTART:
        source = "The course's five notebooks together"
    else:
        source = f"Executed: [on the GPU](../results/{GPU_RUN}/{notebook}), [without one](../results/{CPU_RUN}/{notebook})"
    return "\n".join([*lines, "", f"{source}; [how the estimate was made](../results/speed.md#the-estimate-for-a-t4)."])


def in_words(time: float) -> str:
    """Minutes as people say them."""
    return "under 1 min" if time < 0.95 else f"{time:.0f} min"


def fill(text: str, name: str, table: str) -> str:
    """`text` with the table called `name` in its place."""
    return re.sub(
        rf"(<!-- {name} -->).*?(<!-- /{name} -->)", lambda found: f"{found[1]}\n{table}\n{found[2]}", text, flags=re.DOTALL
    )


TABLES = {
    "scores": scores,
    "judge": judge,
    "speed": speed,
    "benchmark": benchmark,
    "own": own_data,
    "scaling": scaling,
    "scaled": scaled,
    "ladder": ladder,
    "pooled": pooled,
    "budget": budget,
    "ladder-ten": ladder_ten,
    "ladder-held-out": ladder_held_out,
    "wordings": wordings,
    "paired": paired,
    "ledger": ledger,
    "on-dev": on_dev,
    "on-sample": on_sample,
    "wrong": wrong,
}


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
        first = notebook["cells"][0]
        if "<!-- cost -->" in "".join(first["source"]):
            first["source"] = fill("".join(first["source"]), "cost", cost(path.name)).splitlines(keepends=True)
        for cell in notebook["cells"]:
            if "<!-- ladder -->" in "".join(cell["source"]):
                cell["source"] = fill("".join(cell["source"]), "ladder", tables["ladder"]).splitlines(keepends=True)
        made[path] = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.tables", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; end with an error if a table is not as its records say"
    )
    check = parser.parse_args().check
    stale = {path: text for path, text in pages().items() if path.read_text(encoding="utf-8") != text}
    if check and stale:
        sys.exit(f"not what the records say: {', '.join(path.name for path in stale)}; run `make tables`")
    for path, text in stale.items():
        write_text(path, text)
    print(f"{len(stale)} files written anew")
