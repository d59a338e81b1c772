"""Two releases of the code at work at once, as during a deployment: the next one writes the same row as other bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scheduler import Scheduler

from bucketdex.definition.rows import RowCodec
from bucketdex.engine import fetch

FIRST, NEXT = b"{", b"{ "  # how a line begins


@contextmanager
def releases(world: Scheduler) -> Iterator[None]:
    """While a process of the next release runs, lines are encoded as that does it. Both read both."""
    encode_lines, encode_object = RowCodec.encode_lines, fetch.encode_object

    def encoding_lines(codec: RowCodec, rows: list[Any]) -> list[bytes]:
        return [_written(line) for line in encode_lines(codec, rows)]

    def encoding_object(row: Any) -> bytes:
        return _written(encode_object(row))

    def _written(line: bytes) -> bytes:
        return line.replace(FIRST, NEXT, 1) if world.current.newer else line

    RowCodec.encode_lines = encoding_lines  # type: ignore[method-assign]
    fetch.encode_object = encoding_object
    try:
        yield
    finally:
        RowCodec.encode_lines = encode_lines  # type: ignore[method-assign]
        fetch.encode_object = encode_object


def as_first_release(line: bytes) -> bytes:
    """A line as the first release would write it."""
    return line.replace(NEXT, FIRST, 1) if line.startswith(NEXT) else line
