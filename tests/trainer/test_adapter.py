"""What a training leaves behind."""

import json
import zipfile
from pathlib import Path

import pytest

from helpers import models, train
from helpers.run import config
from helpers.run.config import LLAMA
from helpers.run.presets import SMOLLM
from helpers.trainer import adapter

torch = pytest.importorskip("torch")
pytest.importorskip("trl")


@pytest.fixture
def saved(copied, smoke, rows):
    """A run folder with a saved adapter, and the path of its zip."""
    copied.add_to_record(data_name="embedded sample")
    model, tokenizer = models.load(smoke)
    outcome = train.train(model, tokenizer, rows, smoke, copied)
    return copied, adapter.save(model, tokenizer, smoke, copied, outcome)


def test_no_file_of_the_adapter_names_a_folder_of_this_machine(saved, smoke):
    run, _ = saved
    texts = [path for path in (run / "adapter").iterdir() if path.suffix in (".json", ".md", ".jinja")]
    assert {"adapter_config.json", "README.md", "tokenizer_config.json"} <= {path.name for path in texts}
    for path in (*texts, run / "record.json"):
        text = path.read_text(encoding="utf-8")
        assert str(Path(smoke.model_name).parent) not in text, path.name
        assert str(run.path) not in text, path.name
    assert json.loads((run / "adapter/adapter_config.json").read_text())["base_model_name_or_path"] == "tiny-random-llama-2"


def test_the_zip_holds_the_adapter_folder_and_nothing_is_left_beside_it(saved):
    run, packed = saved
    assert packed == run / "adapter.zip"
    with zipfile.ZipFile(packed) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    assert names == {path.name for path in (run / "adapter").iterdir()}
    assert not [path.name for path in run.path.iterdir() if path.name.startswith(".adapter")]


def test_a_saved_adapter_holds_the_weights_of_the_last_step(saved, smoke):
    from safetensors.torch import load_file

    run, _ = saved
    final = load_file(run / "checkpoints/checkpoint-4/adapter_model.safetensors")
    kept = load_file(run / "adapter/adapter_model.safetensors")
    assert kept.keys() == final.keys()
    assert all(torch.equal(kept[name], final[name]) for name in kept)


def test_the_record_says_how_it_was_trained(saved):
    record = saved[0].record()
    assert record["engine"] == "transformers"
    assert record["train"]["steps"] == 4
    assert {"seconds", "seconds_per_step", "tokens_per_second", "peak_memory_gib", "final_loss"} <= record["train"].keys()
    assert "torch" in record["versions"]


@pytest.mark.parametrize(
    "model_name, data_name, named, not_named",
    [
        (LLAMA, "Spider", ["Built with Llama", "Llama 3.2 Community License", "CC BY-SA 4.0"], ["Apache"]),
        (SMOLLM, "embedded sample", ["Apache License 2.0"], ["Llama 3.2", "CC BY-SA"]),
        (SMOLLM, "Spider", ["Apache License 2.0", "CC BY-SA 4.0"], ["Llama 3.2"]),
        ("/data/ada/my_model", "my data", ["None beyond those of your own model and data"], ["Apache", "/data/ada"]),
    ],
)
def test_the_model_card_names_the_licences_that_apply(unbroken, smoke, model_name, data_name, named, not_named):
    settings = smoke.with_overrides({"model_name": model_name}, "this test")
    card = adapter.model_card(settings, {"train": unbroken[1].record(), "data_name": data_name})
    assert all(words in card for words in named)
    assert not any(words in card for words in not_named)
    assert f"base_model: {config.portable(model_name)}\n" in card
