"""A stream of bytes to blocks of whole lines with their offsets. Changes when what ends a line does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bucketdex.source.object import ObjectError

BLOCK_BYTES = 1024 * 1024
RECORD_BYTES_MAX = 16 * 1024 * 1024
"""A longer record is a reject: this, not the object, is what memory has to hold at once."""

TOO_LONG = f"longer than {RECORD_BYTES_MAX // (1024 * 1024)} MiB"


class Block(NamedTuple):
    """Whole lines, line ends included (the object's last line may have none), from `offset` in the unpacked object.

    A line that outgrew RECORD_BYTES_MAX is a block of its own: `skipped` bytes not kept, and its line end as data.
    """

    offset: int
    data: bytes
    skipped: int = 0


def line_blocks(chunks: Iterable[bytes], *, lone_returns: bool = False) -> Iterator[Block]:
    """Cut a stream into blocks of at least BLOCK_BYTES (but for the last) that end where a line does.

    Lines end at \\n; with `lone_returns` at \\r, too (which an \\n may still follow). Holds one block, one chunk and at
    most about twice the longest line that is kept. An ObjectError of `chunks` is raised after the
    whole lines before it.
    """
    failures: list[ObjectError] = []
    pending: list[bytes] = []
    size, wanted, offset, skipped = 0, BLOCK_BYTES, 0, 0
    for chunk in _until_failure(chunks, failures):
        pending.append(chunk)
        size += len(chunk)
        if size < wanted:
            continue
        data = b"".join(pending)
        if skipped:
            cut = _first_end(data, lone_returns)
            if not cut:  # only whether a \r was last must be remembered
                kept = data[-1:] if data.endswith(b"\r") else b""
                skipped += len(data) - len(kept)
                pending, size, wanted = [kept], len(kept), BLOCK_BYTES
                continue
            yield (block := _skipped(offset, skipped, data[:cut]))
            offset += block.skipped + len(block.data)
            data, skipped = data[cut:], 0
        if cut := _last_end(data, lone_returns):
            yield Block(offset, data[:cut])
            offset += cut
            data = data[cut:]
        elif len(data) > RECORD_BYTES_MAX + 1:  # a \r at its end may belong to the line's end
            kept = data[-1:] if data.endswith(b"\r") else b""
            skipped, data = len(data) - len(kept), kept
        pending, size = [data], len(data)
        wanted = max(BLOCK_BYTES, 2 * size)  # doubling: a long line costs no more than twice its length in copies
    data = b"".join(pending)
    if skipped:
        cut = _first_end(data, lone_returns) or len(data)
        yield (block := _skipped(offset, skipped, data[:cut]))
        offset, data = offset + block.skipped + len(block.data), data[cut:]
    if failures:
        data = data[: _last_end(data, lone_returns)]  # part of a line could pass for a whole one
    if data:
        yield Block(offset, data)
    if failures:
        raise failures[0]


def _until_failure(chunks: Iterable[bytes], failures: list[ObjectError]) -> Iterator[bytes]:
    """The chunks before the object fails, so that the lines before can be given out first."""
    try:
        yield from chunks
    except ObjectError as error:
        failures.append(error)


def _skipped(offset: int, before: int, tail: bytes) -> Block:
    content = tail.removesuffix(b"\n").removesuffix(b"\r")
    return Block(offset, tail[len(content) :], before + len(content))


def _last_end(data: bytes, lone_returns: bool) -> int:
    """Where the last line that surely has ended ends; a \\r at the very end may yet be followed by its \\n."""
    cut = data.rfind(b"\n") + 1
    return max(cut, data.rfind(b"\r", cut, -1) + 1) if lone_returns else cut


def _first_end(data: bytes, lone_returns: bool) -> int:
    cut = data.find(b"\n") + 1
    if lone_returns and (at := data.find(b"\r", 0, cut - 1 if cut else -1)) >= 0:
        return cut if at == cut - 2 else at + 1
    return cut
