"""Write the repository's public address into every badge and bootstrap cell: python -m tools.repository owner/name."""

from __future__ import annotations

import re
import sys
import tomllib

from helpers.run.files import write_text
from helpers.run.machine import ROOT

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def current() -> str:
    """The owner/name that pyproject.toml holds, the one place of the address."""
    url = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
    return "/".join(url.rstrip("/").split("/")[-2:])


def files() -> list:
    """The files that carry the address."""
    return [ROOT / "pyproject.toml", ROOT / "README.md", *sorted((ROOT / "notebooks").glob("*.ipynb"))]


def rename(new: str) -> None:
    """Put owner/name in the place of the present one, everywhere."""
    old = current()
    for path in files():
        text = path.read_text(encoding="utf-8")
        for form in ("github.com/{}", "github/{}/blob"):
            text = re.sub(re.escape(form.format(old)) + r"(?![\w-])", form.format(new), text)
        write_text(path, text)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not NAME.fullmatch(sys.argv[1]):
        sys.exit("usage: make repository NAME=owner/name")
    rename(sys.argv[1])
    print(f"{len(files())} files now name {sys.argv[1]}")
