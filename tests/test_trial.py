"""From settings to a row of the ledger and back to weights, by the commands alone."""

import json
import subprocess
import sys

import pytest

from helpers import environment
from helpers.runs import Run

pytest.importorskip("trl")


def command(*words):
    made = subprocess.run([sys.executable, "-m", *map(str, words)], cwd=environment.ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-3000:]
    return made.stdout


@pytest.mark.slow
def test_trials_teach_a_verifier_whose_weights_are_tried(tmp_path):
    few = {
        "prompt_style": "linked",
        "constrained": True,
        "max_seq_length": 700,
        "candidates": 3,
        "eval_questions": 8,
        "train_examples": 24,
        "held_out_databases": 3,
    }

    def trial(name, **more):
        given = [word for pair in (few | more).items() for word in ("-p", *pair)]
        command("tools.trial", tmp_path / name, "--preset", "smoke", *given)

    trial("a")
    learning = {"twin_weight": 1, "question_weight": 0.7, "verifier_weight": 2, "verifier_runs": tmp_path / "a", "rereadings": 2}
    trial("b", held_out_part=1, **learning)
    record = Run(tmp_path / "b").record()
    assert record["evaluation"]["questions"] == 8 and {"train", "twin", "channel", "verifier"} <= set(record)
    assert record["overrides"]["verifier_runs"] == ["a"], "no path of this machine"
    first, twin = (Run(tmp_path / "b" / part) for part in (".", "twin"))
    seeds = [one.read_json("checkpoints/made_with.json")["seed"] for one in (first, twin)]
    assert seeds[1] == seeds[0] + 1
    weights = [(one / "adapter/adapter_model.safetensors").read_bytes() for one in (first, twin)]
    assert len(weights[0]) == len(weights[1]) and weights[0] != weights[1]

    command("tools.weights", tmp_path / "b")
    tried = json.loads((tmp_path / "b/evaluation/weights.json").read_text(encoding="utf-8"))["tried"]
    own = [one for one in tried if one["question_weight"] == 0.7 and one["verifier_weight"] == 2 and one["reread"]]
    assert {one["rule"] for one in own} == {"best", "rows", "vote"}

    command("tools.ladder", tmp_path / "b")
    rungs = json.loads((tmp_path / "b/evaluation/ladder.json").read_text(encoding="utf-8"))["rungs"]
    assert len(rungs) == 12 and all(one["questions"] == 8 for one in rungs)

    trial("c", held_out_part=1, learning_rate=1e-3, ensemble_runs=tmp_path / "b")
    assert Run(tmp_path / "c").record()["evaluation"]["decoding"].endswith("2 runs pooled")
    command("tools.ladder", tmp_path / "c")
    rungs = json.loads((tmp_path / "c/evaluation/ladder.json").read_text(encoding="utf-8"))["rungs"]
    assert [one["rung"] for one in rungs[-2:]] == ["the likeliest that runs, best with rows", "2 runs pooled"]
    assert rungs[-1]["seconds"] > rungs[-2]["seconds"]
