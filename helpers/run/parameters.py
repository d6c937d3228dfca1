"""Check parameters as papermill and the command line hand them over: names, types, spelling."""

from __future__ import annotations

import ast
import difflib
import types
import typing
from collections.abc import Iterable
from typing import Any

from helpers.run import machine


def refuse_unknown_parameters(known: set[str]) -> None:
    """Refuse a parameter that papermill injected but the notebook does not know. Papermill itself only warns.

    Papermill writes its parameters into a cell of their own, which begins with `# Parameters`.

    Raises:
        ValueError: names the nearest parameter that the notebook has.
    """
    for cell in machine.injected_cells():
        for name in [target.id for node in ast.parse(cell).body if isinstance(node, ast.Assign) for target in node.targets]:
            if name not in known:
                listed = ", ".join(sorted(known))
                raise ValueError(f"No parameter is called {name!r} here.{nearest(name, known)} There are: {listed}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean …?" for a name close to a known one, else ""."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


def literal(text: str) -> Any:
    """Return `text` as Python reads it (3e-4, False, None), or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def as_type(name: str, value: Any, wanted: Any) -> Any:
    """Convert a parameter's value to the type `wanted`: bool, int, float, str, a tuple of str, or one of them or None.

    Raises:
        ValueError: the value cannot be converted; the message names the parameter.
    """
    options = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)
    if value is None and type(None) in options:
        return None
    wanted = options[0]
    if typing.get_origin(wanted) is tuple:
        return _as_names(name, value)
    if wanted is bool:
        if isinstance(value, bool):
            return value
        hint = f": write {value.capitalize()}" if str(value).lower() in ("true", "false") else ""
        raise ValueError(f"{name}={value!r} must be True or False{hint}")
    if wanted is str:
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, int) and not isinstance(value, bool):  # a name like 2024, from YAML or a command line
            return str(value)
        raise ValueError(f"{name}={value!r} must be text; in a YAML file write it in quotes")
    return _as_number(name, value, wanted)


def _as_names(name: str, value: Any) -> tuple[str, ...]:
    value = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{name}={value!r} must be a list of names")
    return tuple(value)


def _as_number(name: str, value: Any, wanted: type) -> float:
    if wanted is int and isinstance(value, (int, str)) and str(value).strip().isdecimal():
        return int(value)  # not by way of float, which rounds beyond 53 bits
    try:
        number = float(value) if not isinstance(value, bool) else None
        if number is not None and (wanted is float or number == int(number)):
            return wanted(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{name}={value!r} must be {'a whole number' if wanted is int else 'a number'}")
