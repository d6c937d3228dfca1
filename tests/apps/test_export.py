"""Exports: each answers as the adapter does, says what it is, and names what it cannot do."""

import json
import struct
import sys
import types

import pytest
from conftest import write_trained_run

from helpers import data, models
from helpers.__main__ import main
from helpers.apps import export
from helpers.apps.ask import load
from helpers.judge import scores
from helpers.judge.verdicts import Verdict
from helpers.prompts import tokens
from helpers.run.presets import preset
from helpers.sources import download, model_files
from helpers.trainer import adapter

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def tiny(smoke, sample, tmp_path_factory):
    """The tiny model, its adapter moved a little, so that answers are still words."""
    return write_trained_run(tmp_path_factory.mktemp("tiny") / "run", smoke, sample, spread=0.02)


@pytest.fixture(scope="module")
def smollm(smollm_files, sample, tmp_path_factory):
    """SmolLM2 with an adapter that nobody trained, five questions to judge it by."""
    settings = preset("cpu").with_overrides(
        {"model_name": str(smollm_files.folder), "eval_questions": 5, "max_new_tokens": 8}, "test"
    )
    return write_trained_run(tmp_path_factory.mktemp("smollm") / "run", settings, sample, spread=0.02)


def test_a_merged_model_answers_as_the_adapter_did_and_needs_no_peft(tiny, tmp_path):
    target = tmp_path / "merged"
    export.export_merged(tiny, target)
    names = {path.name for path in target.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", adapter.PROMPT_CONFIG} <= names
    assert "adapter_config.json" not in names

    from safetensors.torch import load_file

    weights = load_file(target / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert not any("lora" in name for name in weights)

    before, after = load(tiny.path), load(model=str(target))
    ids = torch.tensor([tokens.prompt_ids(before.tokenizer, "How many singers?")])
    with torch.no_grad():
        difference = (before.model(ids).logits - after.model(ids).logits).abs().max()
        with before.model.disable_adapter():
            moved = (before.model(ids).logits - after.model(ids).logits).abs().max()
    assert difference < 0.02 < moved, "half precision apart from the adapter, and the adapter is in it"


def test_an_export_is_checked_on_dev_questions_beside_the_adapter(tiny, tmp_path):
    export.export_adapter(tiny, tmp_path / "adapter")
    # its base is a folder of this machine, which a record does not name
    kept = json.loads((tmp_path / "adapter" / adapter.PROMPT_CONFIG).read_text())
    kept["settings"]["model_name"] = tiny.config().model_name
    (tmp_path / "adapter" / adapter.PROMPT_CONFIG).write_text(json.dumps(kept))
    found = export.check(tiny, "adapter", tmp_path / "adapter", questions=4)
    assert (found.questions, found.ex, found.difference["difference"]) == (4, found.adapter_ex, 0)
    assert not found.is_worse and "no drop beyond chance" in str(found)


def verdicts(right, wrong):
    one = Verdict(exec=1, exact=0, hardness="easy", outcome="correct", error=None)
    other = Verdict(exec=0, exact=0, hardness="easy", outcome="wrong result", error=None)
    return [one] * right + [other] * wrong


@pytest.mark.parametrize("right, worse", [(40, False), (38, False), (20, True)])
def test_a_drop_beyond_the_paired_interval_is_flagged(right, worse):
    difference = scores.paired_difference(verdicts(40, 20), verdicts(right, 60 - right))
    found = export.Check(questions=60, runtime="llama.cpp", ex=right / 0.6, adapter_ex=66.7, difference=difference)
    assert found.is_worse is worse
    assert ("WORSE" in str(found)) is worse


@pytest.fixture(scope="module")
def converter():
    try:
        return export.converter()
    except download.DownloadError as error:
        pytest.skip(f"llama.cpp's converter is not on this machine: {error}")


@pytest.mark.slow
def test_a_gguf_file_and_its_modelfile_fit_each_other_and_the_training(smollm, sample, converter, tmp_path, monkeypatch):
    from gguf import GGUFReader

    export.export_ollama(smollm, tmp_path / "ollama")
    file = tmp_path / "ollama" / export.GGUF
    fields = GGUFReader(file).fields
    vocabulary = fields["tokenizer.ggml.tokens"].contents()
    assert fields["tokenizer.ggml.pre"].contents() == "smollm" and fields["tokenizer.ggml.model"].contents() == "gpt2"
    assert vocabulary[fields["tokenizer.ggml.eos_token_id"].contents()] == "<|im_end|>"

    recipe = (tmp_path / "ollama" / export.MODELFILE).read_text()
    assert recipe.startswith(f"FROM ./{export.GGUF}\n")
    assert 'PARAMETER stop "<|im_end|>"' in recipe and "PARAMETER temperature 0\n" in recipe
    template = recipe.split('"""')[1]
    tokenizer = models.load_tokenizer(model_files.find(smollm.config().model_name))
    message = "singer: name\nHow many?"
    rendered = tokenizer(template.replace("{{ .Prompt }}", message), add_special_tokens=False)["input_ids"]
    assert rendered == tokens.prompt_ids(tokenizer, message)

    before, read, predict = load(smollm.path), [], export.predict
    monkeypatch.setattr(export, "predict", lambda assistant, asked: read.append(assistant) or predict(assistant, asked))
    questions = data.dev_questions(smollm, smollm.config(), sample)[:2]
    assert export.gguf_predictions(smollm, file, questions)[1] == predict(before, questions)
    ids = torch.tensor([rendered])
    with torch.no_grad():
        assert (read[0].model(ids).logits.float() - before.model(ids).logits).abs().max() < 0.1


@pytest.mark.slow
def test_a_model_that_llama_cpp_does_not_know_is_refused_and_leaves_nothing(tiny, converter, tmp_path):
    with pytest.raises(RuntimeError, match=r"llama\.cpp's converter did not take this model"):
        export.export_gguf(tiny, tmp_path / "gguf")
    assert list(tmp_path.iterdir()) == []


class Bos:
    """A tokenizer like Llama's: it writes its first token itself, and its template does as well."""

    bos_token, bos_token_id, eos_token = "<|begin|>", 1, "<|eot|>"

    def __call__(self, text):
        return {"input_ids": [1, 5]}

    def apply_chat_template(self, turn, *, date_string, **_):
        return f"<|begin|><|system|>Today: {date_string}<|user|>{turn[0]['content']}<|eot|><|assistant|>"


def test_a_first_token_that_the_runtime_writes_is_not_in_the_template(smoke):
    recipe = export.modelfile(Bos(), smoke)
    assert 'TEMPLATE """<|system|>Today: 26 Jul 2024<|user|>{{ .Prompt }}<|eot|><|assistant|>"""' in recipe


# The Hub, played by a stand-in


@pytest.fixture
def hub(monkeypatch):
    """What the Hub was asked for; set `fails` to make it refuse."""
    from types import SimpleNamespace

    import huggingface_hub

    seen = SimpleNamespace(fails=None, repository=None, private=None, files={})

    class Api:
        def create_repo(self, name, *, private, exist_ok):
            if seen.fails:
                raise seen.fails
            seen.repository, seen.private = name, private
            return f"https://hub.example/{name}"

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            assert repo_id == seen.repository
            seen.files = {path.name: path.read_bytes() for path in folder_path.iterdir()}

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    return seen


def test_an_upload_carries_the_adapter_and_a_card_with_scores(tiny, hub, capsys):
    score = {"questions": 60, "ex": 26.7, "ex_low": 17.1, "ex_high": 39.0, "em": 20.0}
    tiny.add_to_record(evaluation={"questions": 60, "decoding": "greedy", "tuned": score, "base": score | {"ex": 1.7}})
    assert main(["export", "hub", "--to", "me/my-sql", "--run-dir", str(tiny.path)]) == 0
    assert "Uploaded: https://hub.example/me/my-sql" in capsys.readouterr().out
    assert (hub.repository, hub.private) == ("me/my-sql", True)
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md", adapter.PROMPT_CONFIG} <= set(hub.files)
    (length,) = struct.unpack("<Q", hub.files["adapter_model.safetensors"][:8])
    assert all(
        "lora" in name for name in json.loads(hub.files["adapter_model.safetensors"][8 : 8 + length]) if name != "__metadata__"
    )
    card = hub.files["README.md"].decode()
    assert "26.7 % (95 %: 17.1 to 39.0)" in card and "60 dev questions of embedded sample" in card and "before\n" not in card
    assert str(tiny.path) not in card


def test_an_upload_that_is_refused_says_what_to_do(tiny, hub, capsys):
    from huggingface_hub import errors

    hub.fails = errors.LocalTokenNotFoundError("no token")
    assert main(["export", "hub", "--to", "me/my-sql", "--run-dir", str(tiny.path)]) == 2
    assert "Not logged in to the Hub: `hf auth login`" in capsys.readouterr().err
    hub.fails = OSError("no route to host")
    assert main(["export", "hub", "--to", "me/my-sql", "--run-dir", str(tiny.path)]) == 2
    assert "No upload to me/my-sql: no route to host" in capsys.readouterr().err


# The command


def test_the_command_writes_checks_and_writes_again(tiny, capsys, tmp_path):
    for _ in range(2):
        assert main(["export", "merged", "--run-dir", str(tiny.path), "--to", str(tmp_path / "out"), "--questions", "2"]) == 0
        out = capsys.readouterr().out
        assert "Written:" in out and "EX on 2 dev questions" in out


def test_the_command_refuses_before_it_works(tiny, capsys, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("do not lose")
    for arguments, words in (
        (["merged", "--to", str(tmp_path / "precious")], "exists and is no earlier export"),
        (["hub"], "needs the name"),
        (["merged", "--to", str(tmp_path / "precious/thesis.txt/x")], "cannot be written"),
    ):
        assert main(["export", *arguments, "--run-dir", str(tiny.path)]) == 2
        assert words in capsys.readouterr().err
    assert main(["export", "merged", "--run-dir", str(tmp_path / "norun")]) == 2
    assert "has no tuned model yet" in capsys.readouterr().err
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "do not lose"


@pytest.mark.parametrize("kind, library", [("adapter", "peft"), ("merged", "transformers"), ("gguf", "gguf")])
def test_a_model_card_says_what_it_is_how_to_ask_it_and_what_is_not_known(smoke, kind, library):
    record = {"train": {"steps": 3, "first_loss": 2.0, "final_loss": 1.0}, "data_name": "Spider"}
    settings = smoke.with_overrides({"model_name": "unsloth/Llama-3.2-1B-Instruct"}, "test")
    card = adapter.model_card(settings, record, kind)
    assert f"library_name: {library}" in card and "Scores: not judged." in card
    assert "Built with Llama" in card and "CC BY-SA 4.0" in card
    assert "Write one SQLite query that answers the question.\nsinger: singer_id, name\n" in card


@pytest.mark.parametrize("more, words", [({}, "greedy."), ({"base": {"ex": 4.0}}, "greedy; base model 4.0 %.")])
def test_a_model_card_gives_the_scores_that_there_are(smoke, more, words):
    tuned = {"ex": 61.0, "ex_low": 58.0, "ex_high": 64.0, "em": 50.0}
    judged = {"questions": 1034, "decoding": "greedy", "tuned": tuned} | more  # a trial judges the tuned model alone
    record = {"train": {"steps": 3, "first_loss": 2.0, "final_loss": 1.0}, "data_name": "Spider", "evaluation": judged}
    card = adapter.model_card(smoke, record)
    assert (
        f"Execution accuracy 61.0 % (95 %: 58.0 to 64.0), exact set match 50.0 %, on 1,034 dev questions of Spider, {words}"
        in card
    )


def linears(model):
    """The frozen matrices of a model by their names."""
    return {name: module.weight.detach().clone() for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}


def test_an_adapter_trained_over_4_bits_is_added_to_their_values(smoke, monkeypatch):
    model, _ = models.load(smoke)
    before = linears(model)
    functional = types.ModuleType("bitsandbytes.functional")  # the real one comes with a GPU's requirements alone
    functional.quantize_4bit = lambda weights, quant_type, compress_statistics: (weights, (quant_type, compress_statistics))
    functional.dequantize_4bit = lambda weights, state: weights + (state == ("nf4", True))
    monkeypatch.setitem(sys.modules, "bitsandbytes", types.ModuleType("bitsandbytes"))
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", functional)
    export.dequantise(model)
    moved = {name for name, weights in linears(model).items() if not torch.equal(weights, before[name])}
    assert moved == {name for name in before if name.endswith("_proj.base_layer")} and moved


def test_without_bitsandbytes_the_weights_stay_and_that_is_said(smoke, monkeypatch, capsys):
    model, _ = models.load(smoke)
    before = linears(model)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    export.dequantise(model)
    assert all(torch.equal(weights, before[name]) for name, weights in linears(model).items())
    assert "never quantised" in capsys.readouterr().out


def test_the_values_of_4_bits_are_those_that_a_model_loaded_in_4_bits_computes_with(tmp_path):
    pytest.importorskip("bitsandbytes")
    shape = transformers.LlamaConfig(
        vocab_size=100, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1
    )
    transformers.LlamaForCausalLM(shape).save_pretrained(tmp_path)
    quantised = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    options = {"dtype": torch.float32, "device_map": {"": 0 if torch.cuda.is_available() else "cpu"}}
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, **options)
    small = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=quantised, **options).dequantize()
    export.take_values_of_4bit(plain)
    for name, weights in linears(plain).items():
        torch.testing.assert_close(weights, small.get_submodule(name).weight.detach())
