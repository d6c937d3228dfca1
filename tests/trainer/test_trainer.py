"""What the trainer is told."""

import dataclasses

import pytest

from helpers.run import machine
from helpers.run.config import RunConfig
from helpers.trainer import trainer

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

T4 = machine.Gpu(name="Tesla T4", memory_gib=14.6, capability=(7, 5))


@pytest.fixture
def told(rows, run, monkeypatch):
    """The arguments that TRL's trainer gets for some settings on some GPU, or none."""

    class Recorder:
        def __init__(self, *, args, **_):
            self.args = args

        def remove_callback(self, _):
            pass

    def arguments(settings, gpu):
        monkeypatch.setattr("helpers.trainer.order.Trainer", Recorder)
        monkeypatch.setattr(machine, "gpu", lambda: gpu)
        size = settings.per_device_train_batch_size or 1
        layout = trainer.split_batch(settings.train_batch_size, size, settings.gradient_checkpointing)
        return trainer.make_trainer(None, None, None, settings, run, layout).args

    return arguments


@pytest.mark.parametrize(
    "gpu, precision, bf16, fp16",
    [(T4, "auto", False, True), (None, "auto", False, False), (None, "bf16", True, False), (T4, "fp32", False, False)],
)
def test_the_trainer_computes_in_what_the_machine_has(told, smoke, gpu, precision, bf16, fp16):
    arguments = told(smoke.with_overrides({"precision": precision}, "this test"), gpu)
    assert (arguments.bf16, arguments.fp16) == (bf16, fp16)
    assert arguments.use_cpu is (gpu is None)
    assert arguments.gradient_checkpointing is False


def test_the_published_recipe_reaches_the_trainer_to_the_letter(told):
    arguments = told(dataclasses.replace(RunConfig(), optim="adamw_torch"), T4)
    expected = {
        "max_length": 1024,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 8,
        "max_steps": 100,
        "learning_rate": 2e-4,
        "warmup_steps": 10,
        "weight_decay": 0.01,
        "packing": False,
        "padding_free": False,
        "gradient_checkpointing": True,
        "dataloader_pin_memory": False,
        "completion_only_loss": True,
        "fp16": True,
        "seed": 3407,
    }
    assert {name: getattr(arguments, name) for name in expected} == expected
    assert arguments.lr_scheduler_type == "linear"
    assert told(RunConfig(), T4).optim == "adamw_8bit"


def test_without_max_steps_the_trainer_counts_epochs(told, smoke):
    arguments = told(smoke.with_overrides({"max_steps": 0, "num_train_epochs": 1.5}, "this test"), None)
    assert arguments.max_steps == -1
    assert arguments.num_train_epochs == 1.5
