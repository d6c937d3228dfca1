"""Virtual tables (full-text search, R*Tree and others): their modules, and the ordinary tables that hold their content."""

from __future__ import annotations

import re
from collections.abc import Mapping

VIRTUAL = re.compile(r"CREATE\s+VIRTUAL\s+TABLE\b.*?\bUSING\s+\W?(\w+)", re.IGNORECASE | re.DOTALL)
# Such a table is called after the virtual one: its name, an underscore, and one of these.
SHADOWS = {
    **dict.fromkeys(("fts3", "fts4"), "content|docsize|segdir|segments|stat"),
    "fts5": "config|content|data|docsize|idx",
    **dict.fromkeys(("rtree", "rtree_i32", "geopoly"), "node|parent|rowid"),
    "vec0": r"auxiliary|chunks|info|rowids|(metadatachunks|metadatatext|vector_chunks)\d+",
    "spellfix1": "vocab",
}


def module_of(sql: str) -> str:
    """Return the module that a CREATE statement names, in lower case; '' where it makes no virtual table."""
    found = VIRTUAL.match(sql)
    return found[1].lower() if found else ""


def is_shadow(name: str, modules: Mapping[str, str]) -> bool:
    """Whether a table belongs to a virtual one, which keeps its content there.

    Args:
        name: of the table, folded (`schema.fold`).
        modules: the module of each virtual table by its name, folded.

    Source: SQLite, "The Virtual Table Mechanism", section 2.17, and the pages of FTS3, FTS5, R*Tree and spellfix1; sqlite-vec.
    """
    cuts = [at for at, sign in enumerate(name) if sign == "_" and modules.get(name[:at]) in SHADOWS]
    return any(re.fullmatch(SHADOWS[modules[name[:at]]], name[at + 1 :]) for at in cuts)
