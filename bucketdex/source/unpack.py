"""Packed bytes to plain ones, within a bound. Changes when a compression is added."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeAlias

from bucketdex.source.object import ObjectError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Packing: TypeAlias = Literal["gzip", "zstd"]

PIECE_BYTES = 1024 * 1024  # of plain bytes held at a time, however well they were packed
FEED_BYTES = 64 * 1024  # packed bytes are fed in pieces of this size, so that the input's own pieces never show
HEAD_BYTES = 4


def packing(head: bytes) -> Packing | None:
    """How the object that starts with these bytes (4 suffice) is packed.

    Its name plays no part: names lie, in both ways.
    """
    if head[:2] == b"\x1f\x8b":
        return "gzip"
    if head[:4] == b"\x28\xb5\x2f\xfd" or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return "zstd"
    return None


def named_packed(key: str) -> bool:
    """Whether a key says that its object is packed; a hint for who hasn't seen the bytes."""
    return key.endswith((".gz", ".zst", ".zstd"))


def unpack(chunks: Iterable[bytes], *, unpacked_bytes_max: int) -> Iterator[bytes]:
    """The plain bytes of a gzip, zstd (any number of members or frames) or plain object; at most about 1 MiB a piece.

    Raises ObjectError where the data is damaged or cut short, or of kind too_large past the bound, after exactly
    `unpacked_bytes_max` bytes were given out. What comes out doesn't depend on how the input is cut.
    """
    source = iter(chunks)
    head = b""
    for chunk in source:
        head += chunk
        if len(head) >= HEAD_BYTES:
            break
    unpackers: dict[Packing | None, Callable[[Iterator[bytes]], Iterator[bytes]]] = {
        "gzip": _gunzip,
        "zstd": _unzstd,
        None: _plain,
    }
    left = unpacked_bytes_max
    for piece in unpackers[packing(head)](_joined(head, source)):
        if len(piece) > left:
            yield piece[:left]
            raise ObjectError(f"more than {unpacked_bytes_max} bytes unpacked", "too_large")
        left -= len(piece)
        yield piece


def _joined(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from rest


def _plain(chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), PIECE_BYTES):
            yield chunk[start : start + PIECE_BYTES]


def _fed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of FEED_BYTES, so that damage is met at the same place whatever the chunks were."""
    pending = bytearray()
    for chunk in chunks:
        pending += chunk
        start = 0
        while len(pending) - start >= FEED_BYTES:
            yield bytes(pending[start : start + FEED_BYTES])
            start += FEED_BYTES
        del pending[:start]
    if pending:
        yield bytes(pending)


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    member = zlib.decompressobj(wbits=31)
    for piece in _fed(chunks):
        data = piece
        while data:
            if member.eof:  # another member, or the zeros that tapes are padded with
                data = data.lstrip(b"\0")
                if not data:
                    break
                member = zlib.decompressobj(wbits=31)
            yield _inflated(member, data)
            data = member.unused_data if member.eof else member.unconsumed_tail
    while not member.eof:
        if not (plain := _inflated(member, b"")):
            raise ObjectError("the gzip data is cut short")
        yield plain


def _inflated(member: zlib._Decompress, data: bytes) -> bytes:
    try:
        return member.decompress(data, PIECE_BYTES)
    except zlib.error:
        raise ObjectError("the gzip data is damaged") from None


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    frame = zstd.ZstdDecompressor()
    started = False
    for piece in _fed(chunks):
        data = piece
        while data or not (frame.needs_input or frame.eof):
            if frame.eof:
                frame = zstd.ZstdDecompressor()
            try:
                plain = frame.decompress(data, PIECE_BYTES)
            except zstd.ZstdError:
                raise ObjectError("the zstd data is damaged") from None
            started, data = True, frame.unused_data if frame.eof else b""
            yield plain
    if started and not frame.eof:
        raise ObjectError("the zstd data is cut short")
