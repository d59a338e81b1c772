"""Where everything lies in the index bucket: the only module that builds paths. Changes with the bucket's layout."""

from __future__ import annotations

from typing import Final

TABLES: Final = "tables/"
BACKFILLS: Final = "backfills/"  # beside the tables: no sweep of a table comes here
SUCCESSOR: Final = "+"  # between a table and a token: no table's own name has it
ROUNDS: Final = "verify/"
GENERATION_DIGITS: Final = 12  # zero-padded, so that a listing is in order of generation


def tables_prefix() -> str:
    """The folder whose subfolders are the tables."""
    return TABLES


def table_prefix(table: str) -> str:
    """The folder that holds everything of one table."""
    return f"{TABLES}{table}/"


def successor_name(table: str, token: str) -> str:
    """The name of a table that is built to take another's place; `token` makes it unique for ever."""
    return f"{table}{SUCCESSOR}{token}"


def is_successor(table: str) -> bool:
    """Whether it is, or was, to take another table's place."""
    return SUCCESSOR in table


def owner_of(table: str) -> str:
    """The table whose place a successor is to take; any other table is its own owner."""
    return table.partition(SUCCESSOR)[0]


def successors_prefix(table: str) -> str:
    """What the paths of all that belongs to a table's successors, past ones too, begin with."""
    return f"{TABLES}{table}{SUCCESSOR}"


def manifest_path(table: str) -> str:
    """The one mutable object of a table."""
    return f"{TABLES}{table}/manifest.json"


def delta_path(table: str, base: int, token: str) -> str:
    """A new delta's file. `base`: the generation its writer had loaded; `token` makes the name unique for ever."""
    return f"{TABLES}{table}/deltas/{_name(base, token)}.ndjson.zst"


def view_path(table: str, view_id: str, base: int, token: str) -> str:
    """A new file of a run of the view `view_id` (`<name>-<hash>`)."""
    return f"{TABLES}{table}/views/{view_id}/{_name(base, token)}.ndjson.zst"


def descriptors_prefix(table: str) -> str:
    """The folder of a table's descriptors."""
    return f"{TABLES}{table}/descriptors/"


def descriptor_path(table: str, base: int, token: str) -> str:
    """A piece of a manifest that has grown past its bound."""
    return f"{descriptors_prefix(table)}{_name(base, token)}.json.zst"


def backfills_prefix() -> str:
    """Where the backfill jobs are."""
    return BACKFILLS


def backfill_path(table: str) -> str:
    """The backfill job of a table: the newest one, whatever became of it."""
    return f"{BACKFILLS}{table}.json"


def backfill_table(path: str) -> str:
    """The table of a backfill job's path."""
    return path.removeprefix(BACKFILLS).removesuffix(".json")


def round_path(table: str) -> str:
    """How far the scheduled verification of a table has come."""
    return f"{ROUNDS}{table}.json"


def base_generation(path: str) -> int:
    """The generation in a file's name: the floor of garbage collection compares it. ValueError for any other path."""
    base, dash, _ = path.rpartition("/")[2].partition("-")
    if not (path.startswith(TABLES) and dash and len(base) >= GENERATION_DIGITS and base.isdecimal()):
        raise ValueError(f"not an immutable file of an index: {path!r}")
    return int(base)


def table_of(path: str) -> str:
    """The table that a path of the index bucket belongs to. ValueError for a path of none."""
    table, slash, _ = path.removeprefix(TABLES).partition("/")
    if not (path.startswith(TABLES) and table and slash):
        raise ValueError(f"not a path of an index: {path!r}")
    return table


def _name(base: int, token: str) -> str:
    assert base >= 0, base
    return f"{base:0{GENERATION_DIGITS}d}-{token}"
