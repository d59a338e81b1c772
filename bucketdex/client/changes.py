"""What a table's rows became between two generations."""

from __future__ import annotations

from typing import Any, NamedTuple

from bucketdex.client.context import Context
from bucketdex.definition import row_codec
from bucketdex.errors import QueryError
from bucketdex.query.reader import Reader
from bucketdex.storage import GetRequest
from bucketdex.views import RECORDS, changes


class Changes(NamedTuple):
    """The rows that a table has gained and lost, each by key, and the generation to go on from. An overwritten row is
    in both.
    """

    added: list[dict[str, Any]]
    removed: list[dict[str, Any]]
    generation: int


def table_changes(context: Context, table: str, since: int) -> Changes:
    """See `Table.changes`."""
    if type(since) is not int or since < 0:
        raise QueryError(f"changes() takes since=generation, a whole number from 0 up, not {since!r}")

    def prepare(reader: Reader) -> tuple[None, list[GetRequest]]:
        return None, []

    def read(reader: Reader, _: None) -> Changes:
        if since > reader.generation:
            raise QueryError(f"changes(): table {table!r} is at generation {reader.generation}, not yet at {since}")
        codec = row_codec(reader.definition)
        found = Changes([], [], reader.generation)
        for _key, line, weight in changes(reader.snapshot, RECORDS, since):
            rows = found.added if weight > 0 else found.removed
            rows += [codec.to_python(codec.decode(line)) for _ in range(abs(weight))]
        return found

    return context.session.read(table, prepare, read)
