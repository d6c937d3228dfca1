"""Would the requirements leave Colab's own torch alone? python -m tools.colab pip-freeze.gpu.txt [PYTHON]

Google publishes the packages of Colab's GPU runtime. This makes an empty environment that claims to have them all, asks pip what
it would install there for requirements.txt, and installs nothing.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from helpers.run.machine import ROOT

COLAB_PYTHON = "python3.13"
FIXED = ("torch", "torchvision", "torchaudio", "numpy", "pandas")


def read_freeze(freeze: Path) -> dict[str, str]:
    """Colab's packages: version by name; local parts such as +cu128 are dropped."""
    pairs = re.findall(r"^([\w.-]+)==([^\s+;]+)", freeze.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {normal(name): version for name, version in pairs}


def normal(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pretend(packages: dict[str, str], folder: Path, python: str) -> Path:
    """An environment whose metadata claims these packages; gives its interpreter."""
    subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    for name, version in packages.items():
        metadata = site / f"{name.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        (metadata / "INSTALLER").write_text("pip\n", encoding="utf-8")
        (metadata / "RECORD").write_text("", encoding="utf-8")
    return folder / "bin" / "python"


def planned(interpreter: Path) -> dict[str, str]:
    """What pip would install into an environment for requirements.txt."""
    options = ["--quiet", "--dry-run", "--only-binary=:all:", "--report", "-", "--requirement", str(ROOT / "requirements.txt")]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(interpreter), "install", *options], capture_output=True, text=True
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        sys.exit("The requirements do not resolve:\n" + "\n".join(errors or [done.stderr]))
    return {normal(item["metadata"]["name"]): item["metadata"]["version"] for item in json.loads(done.stdout)["install"]}


def main(freeze: Path, python: str | None = None) -> int:
    """Print what pip would install and replace on Colab; 1 if a package that must not move would."""
    python = python or shutil.which(COLAB_PYTHON) or sys.executable
    before = read_freeze(freeze)
    with tempfile.TemporaryDirectory() as folder:
        after = planned(pretend(before, Path(folder) / "colab", python))
    added = [f"{name} {version}" for name, version in sorted(after.items()) if name not in before]
    replaced = [f"{name} {before[name]} → {version}" for name, version in sorted(after.items()) if name in before]
    print(f"with {Path(python).name}, pip would add {len(added)}: {', '.join(added)}")
    print(f"and replace {len(replaced)}: {', '.join(replaced) or 'nothing'}")
    touched = [name for name in FIXED if name in after]
    print(f"{', '.join(FIXED)} stay as they are: {'no, not ' + ', '.join(touched) if touched else 'yes'}")
    return 1 if touched else 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: make colab FREEZE=pip-freeze.gpu.txt")
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
