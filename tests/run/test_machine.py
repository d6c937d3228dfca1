"""The machine: what a GPU can really do, whose paths are meant, and where the course finds itself."""

import os
import platform
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import T4

from helpers.run import machine as machine_module
from helpers.run.machine import (
    ROOT,
    Gpu,
    cache_dir,
    engine,
    offer_download,
    precision,
    resolve,
    run_path,
    short_path,
    table,
)

A100 = Gpu(name="NVIDIA A100-SXM4-40GB", memory_gib=39.4, capability=(8, 0))
H200 = Gpu(name="NVIDIA H200", memory_gib=139.8, capability=(9, 0))


# The GPU and what follows from it


@pytest.mark.parametrize(("gpu", "chosen"), [(T4, "fp16"), (A100, "bf16"), (H200, "bf16"), (None, "fp32")])
def test_auto_is_bf16_only_where_the_gpu_really_has_it(plain_machine, gpu, chosen):
    """A T4 only emulates bf16, and torch says yes all the same."""
    plain_machine(gpu)
    assert precision() == chosen


@pytest.mark.parametrize("gpu", [T4, H200, None])
@pytest.mark.parametrize("wanted", ["bf16", "fp16", "fp32"])
def test_an_explicit_precision_is_obeyed(plain_machine, gpu, wanted):
    plain_machine(gpu)
    assert precision(wanted) == wanted


@pytest.mark.parametrize(
    ("gpu", "wanted", "chosen"),
    [
        (T4, "auto", "unsloth"),
        (None, "auto", "transformers"),
        (T4, "transformers", "transformers"),
        (T4, "unsloth", "unsloth"),
    ],
)
def test_the_engine_is_unsloth_on_a_gpu_unless_another_is_wanted(plain_machine, gpu, wanted, chosen):
    plain_machine(gpu)
    assert engine(wanted) == chosen


def test_unsloth_without_a_gpu_is_refused_with_what_works(plain_machine):
    with pytest.raises(RuntimeError, match=r"needs a CUDA GPU.*use engine='auto' or 'transformers'"):
        engine("unsloth")


@pytest.mark.parametrize(
    ("system", "machine", "release", "theirs", "set_to"),
    [
        ("linux", "x86_64", "6.8.0-generic", {}, "expandable_segments:True"),
        ("linux", "x86_64", "6.8.0-generic", {"PYTORCH_ALLOC_CONF": "backend:native"}, "backend:native"),
        ("linux", "x86_64", "6.8.0-generic", {"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}, None),
        ("linux", "x86_64", "5.15.167.4-microsoft-standard-WSL2", {}, None),
        ("linux", "aarch64", "5.15.148-tegra", {}, None),
        ("win32", "AMD64", "11", {}, None),
        ("darwin", "arm64", "24.0.0", {}, None),
    ],
)
def test_memory_grows_in_place_where_it_can_and_nobody_has_said_otherwise(monkeypatch, system, machine, release, theirs, set_to):
    monkeypatch.setattr(os, "environ", {**theirs})
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine, release=release), raising=False)
    machine_module.prepare_torch()
    assert os.environ.get("PYTORCH_ALLOC_CONF") == set_to


@pytest.mark.parametrize(("theirs", "set_to"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_wait_without_spinning_unless_the_user_says_otherwise(monkeypatch, theirs, set_to):
    monkeypatch.setattr(os, "environ", {**theirs})
    machine_module.prepare_torch()
    assert os.environ["OMP_WAIT_POLICY"] == set_to


def test_the_variables_are_set_before_torch_is_imported_and_not_when_the_judge_is(tmp_path):
    stub = "import os; print('PYTORCH_ALLOC_CONF' in os.environ, 'OMP_WAIT_POLICY' in os.environ)\n"
    (tmp_path / "torch.py").write_text(stub + "class cuda: is_available = staticmethod(lambda: False)\n")
    code = """
import os, sys
from helpers.run import machine
import helpers.judge.files
print("torch" in sys.modules, "PYTORCH_ALLOC_CONF" in os.environ, "OMP_WAIT_POLICY" in os.environ)
assert machine.gpu() is None
"""
    clean = {name: value for name, value in os.environ.items() if "ALLOC_CONF" not in name and name != "OMP_WAIT_POLICY"}
    clean["PYTHONPATH"] = str(tmp_path)  # a torch that only says what it finds
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=clean, capture_output=True, text=True, check=True)
    asks = sys.platform == "linux" and platform.machine() == "x86_64" and "microsoft" not in platform.release().lower()
    assert said.stdout.split() == ["False", "False", "False", str(asks), "True"]


# Places


@pytest.mark.parametrize(
    ("variable", "name"), [(None, "local"), ("COLAB_RELEASE_TAG", "Colab"), ("KAGGLE_KERNEL_RUN_TYPE", "Kaggle")]
)
def test_the_platform_is_known_by_its_variable(plain_machine, monkeypatch, variable, name):
    if variable:
        monkeypatch.setenv(variable, "x")
    assert machine_module.platform() == name


def test_drive_is_refused_outside_of_colab(plain_machine):
    with pytest.raises(RuntimeError, match="works on Colab only: elsewhere set run_dir"):
        run_path(use_drive=True)


def test_drive_is_refused_where_nobody_can_log_in(plain_machine, monkeypatch, tmp_path):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    monkeypatch.setenv("COURSE_HEADLESS", "1")
    monkeypatch.setattr(machine_module, "DRIVE", tmp_path / "not mounted")
    with pytest.raises(RuntimeError, match="headless: set run_dir"):
        run_path(use_drive=True)


def test_a_run_on_drive_lies_on_the_mounted_drive(plain_machine, monkeypatch, tmp_path):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    monkeypatch.setattr(machine_module, "DRIVE", tmp_path)
    assert run_path(use_drive=True) == tmp_path / "text-to-sql" / "runs" / "course"
    assert run_path("runs/second", use_drive=True) == tmp_path / "text-to-sql" / "runs" / "second"


@pytest.mark.parametrize(("variable", "folder"), [(None, "runs/course"), ("", "runs/course"), ("runs/mine", "runs/mine")])
def test_an_unnamed_run_lies_where_run_dir_says_and_else_in_the_repository(plain_machine, monkeypatch, variable, folder):
    if variable is not None:
        monkeypatch.setenv("RUN_DIR", variable)
    assert run_path() == ROOT / folder


def test_on_colab_a_file_is_not_offered_to_a_browser_that_is_not_there(plain_machine, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    monkeypatch.setenv("COURSE_HEADLESS", "1")
    offer_download(tmp_path / "adapter.zip")
    assert "adapter.zip" in capsys.readouterr().out


# Paths


def test_a_relative_path_starts_at_the_repository_whatever_the_working_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert resolve("runs/mine") == ROOT / "runs" / "mine"
    assert resolve(Path("runs/../data")) == ROOT / "data"


def test_an_absolute_path_stays(tmp_path):
    assert resolve(tmp_path) == tmp_path.resolve()


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/data") == tmp_path.resolve() / "data"


@pytest.mark.parametrize("cwd", ["notebooks", "helpers"])
def test_the_cache_is_one_folder_whatever_the_working_directory(monkeypatch, tmp_path, cwd):
    monkeypatch.setattr(machine_module, "ROOT", tmp_path)
    monkeypatch.setenv("COURSE_CACHE", "cache")
    (tmp_path / cwd).mkdir()
    monkeypatch.chdir(tmp_path / cwd)
    assert cache_dir() == tmp_path / "cache"


def test_the_cache_folder_is_made_where_it_is_wanted(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "deep" / "cache"))
    assert cache_dir() == tmp_path / "deep" / "cache"
    assert cache_dir().is_dir()


def test_the_cache_lies_in_the_users_cache_folder_when_nobody_says_otherwise(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir().parent == tmp_path


def test_a_path_is_shown_without_the_machines_own_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert short_path(ROOT / "runs" / "course") == "runs/course"
    assert short_path(tmp_path / "data" / "mine") == "~/data/mine"
    assert short_path(Path("/elsewhere/data")) == str(Path("/elsewhere/data"))


# Versions


def test_versions_name_python_and_sqlite():
    versions = machine_module.versions()
    assert versions["python"] == platform.python_version()
    assert versions["sqlite"] == sqlite3.sqlite_version
    assert versions["sqlglot"].split(".")[0].isdecimal()


def test_versions_leave_out_what_is_absent(monkeypatch):
    monkeypatch.setattr(machine_module, "PACKAGES", ("sqlglot", "no-such-package"))
    assert set(machine_module.versions()) == {"python", "sqlite", "sqlglot"}


def test_the_table_says_what_this_machine_computes_in(plain_machine):
    plain_machine(T4)
    machine = table()["this machine"]
    assert machine["GPU"] == "Tesla T4, 14.7 GiB"
    assert list(machine[["platform", "compute capability", "arithmetic", "engine"]]) == ["local", "7.5", "fp16", "unsloth"]


def test_the_table_says_that_there_is_no_gpu(plain_machine):
    machine = table()["this machine"]
    assert list(machine[["GPU", "compute capability", "arithmetic", "engine"]]) == ["none", "-", "fp32", "transformers"]


def test_kaggle_is_not_taken_for_colab_whose_variable_its_image_sets_too(monkeypatch):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    assert machine_module.platform() == "Kaggle"
