"""What a deployment tells its functions: environment variables and the tables in the bundle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TypeVar

import msgspec

from bucketdex.definition import TableDefinition

S = TypeVar("S", bound=msgspec.Struct)

TABLES = Path(__file__).resolve().parents[1] / "tables.json"


def from_environment(kind: type[S]) -> S:
    """The settings struct, each field read from the variable of its name in capitals.

    Called while the handler is imported, so a wrong deployment fails at cold start: msgspec.ValidationError names
    the field that is missing or doesn't fit.
    """
    fields = (field.name for field in msgspec.structs.fields(kind))
    values = {name: os.environ[name.upper()] for name in fields if name.upper() in os.environ}
    return msgspec.convert(values, kind, strict=False)


def deployed_tables(path: Path = TABLES) -> tuple[TableDefinition, ...]:
    """The definitions that this bundle was built with."""
    documents = json.loads(path.read_bytes())
    return tuple(TableDefinition.from_dict(name, document, origin=path.name) for name, document in documents.items())
