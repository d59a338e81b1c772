"""Sorted lines to files. Changes with how a run is cut into blocks and files."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, islice
from operator import le
from typing import Final

import msgspec

from bucketdex.storage.entries import FileEntry
from bucketdex.storage.filter import build_filter, digests
from bucketdex.storage.format import FILE_FORMAT, FILE_READER, EncodedFile, Footer, separator
from bucketdex.storage.zstd import FrameCompressor, compress, skippable

BLOCK_BYTES: Final = 32 * 1024
FILE_BYTES: Final = 16 * 2**20
STRIDE: Final = 2048  # lines handled together: few enough that they stay in the processor's cache from step to step

_encoder = msgspec.json.Encoder()


class RunWriter:
    """Writes the files of one run from batches of lines in ascending order of their sort keys.

    Deterministic: the same lines give the same bytes. Blocks close once they reach `block_bytes` before compression,
    files once they exceed `file_bytes`; lines of one sort key are never divided. Keeps one file in memory.
    """

    def __init__(
        self,
        view_id: str,
        *,
        level: int = 1,
        block_bytes: int = BLOCK_BYTES,
        file_bytes: int = FILE_BYTES,
        with_filter: bool = True,
    ) -> None:
        self._view = view_id
        self._block_bytes = block_bytes
        self._file_bytes = file_bytes
        self._with_filter = with_filter
        self._compressor = FrameCompressor(level)
        self._keys: list[str] = []  # of lines that no block holds yet
        self._lines: list[bytes] = []
        self._weights: list[int] | None = None
        self._last: str | None = None  # the largest key in a block
        self._begin()

    def _begin(self) -> None:
        self._frames: list[bytes] = []
        self._size = 0
        self._separators: list[str] = []
        self._offsets: list[int] = []
        self._lengths: list[int] = []
        self._sizes: list[int] = []
        self._rows: list[int] = []
        self._weights_net: list[int] = []
        self._digests: list[int] = []  # for the filter
        self._component = "\x00"  # the last one among them (this is none)

    def add(self, keys: list[str], lines: list[bytes], weights: list[int] | None = None) -> list[EncodedFile]:
        """Take the next lines (JSON objects with at least one member, without `_w` and newline) with their sort keys
        and non-zero weights (None: all 1); return the files that are complete. The lists are not changed."""
        assert len(keys) == len(lines), "a key for each line"
        assert weights is None or len(weights) == len(lines), "a weight for each line"
        files = []
        for start in range(0, len(keys), STRIDE):
            part = slice(start, start + STRIDE)
            files += self._add(keys[part], lines[part], None if weights is None else weights[part])
        return files

    def _add(self, keys: list[str], lines: list[bytes], weights: list[int] | None) -> list[EncodedFile]:
        last = self._keys[-1] if self._keys else self._last
        assert last is None or last <= keys[0], "batches out of order"
        assert all(map(le, keys, islice(keys, 1, None))), "sort keys out of order"
        if weights is not None and weights.count(1) == len(weights):
            weights = None
        if self._keys:
            if weights is not None or self._weights is not None:
                weights = (self._weights or [1] * len(self._keys)) + (weights or [1] * len(keys))
            keys = self._keys + keys
            lines = self._lines + lines
        return self._cut(keys, lines, weights)

    def finish(self) -> list[EncodedFile]:
        """Write what is left; return the last files (none when nothing was ever added)."""
        if self._keys:
            self._block(self._keys, self._lines, self._weights)
            self._keys, self._lines, self._weights = [], [], None
        return [self._end()] if self._separators else []

    def _cut(self, keys: list[str], lines: list[bytes], weights: list[int] | None) -> list[EncodedFile]:
        files = []
        ends = list(accumulate(map(len, lines)))
        count = len(keys)
        start = done = 0
        while True:
            stop = bisect_left(ends, done + self._block_bytes, start) + 1
            while stop < count and keys[stop] == keys[stop - 1]:
                stop += 1
            if stop >= count:  # the next batch may go on with the same key
                break
            self._block(keys[start:stop], lines[start:stop], weights[start:stop] if weights is not None else None)
            done = ends[stop - 1]
            start = stop
            if self._size > self._file_bytes:
                files.append(self._end())
        self._keys = keys[start:]
        self._lines = lines[start:]
        self._weights = weights[start:] if weights is not None else None
        return files

    def _block(self, keys: list[str], lines: list[bytes], weights: Sequence[int] | None) -> None:
        if weights is not None:
            pairs = zip(lines, weights, strict=True)
            lines = [line if weight == 1 else _weighted(line, weight) for line, weight in pairs]
        text = b"\n".join(lines) + b"\n"
        frame = self._compressor.frame(text)
        self._separators.append(keys[0] if self._last is None else separator(self._last, keys[0]))
        self._offsets.append(self._size)
        self._lengths.append(len(frame))
        self._sizes.append(len(text))
        self._rows.append(len(keys))
        self._weights_net.append(len(keys) if weights is None else sum(weights))
        self._frames.append(frame)
        self._size += len(frame)
        self._last = keys[-1]
        if self._with_filter:
            first, last = keys[0].partition("\x00")[0], keys[-1].partition("\x00")[0]
            # Equal ones are neighbours; where the first is the last there are no others.
            between = [key.partition("\x00")[0] for key in keys] if first != last else [first]
            components = dict.fromkeys(between)
            components.pop(self._component, None)  # in the file already
            self._digests += digests(components)
            self._component = last

    def _end(self) -> EncodedFile:
        assert self._last is not None
        parts = self._frames
        shape = (0, 0)
        if self._with_filter:
            filter_frames, shape = build_filter(self._digests)
            parts.append(filter_frames)
        index = Footer(
            FILE_FORMAT,
            FILE_READER,
            self._view,
            self._separators,
            self._offsets,
            self._lengths,
            self._sizes,
            self._rows,
            self._weights_net,
        )
        footer = skippable(compress(_encoder.encode(index)))
        parts.append(footer)
        body = b"".join(parts)
        entry = FileEntry(
            path="",
            first=self._separators[0],
            last=self._last,
            rows=sum(self._rows),
            weight=sum(self._weights_net),
            bytes=len(body),
            footer=len(footer),
            filter=shape,
        )
        self._begin()
        return EncodedFile(body, entry)


def _weighted(line: bytes, weight: int) -> bytes:
    assert weight, "a line of weight 0 is no line"
    return b'{"_w":%d,%b' % (weight, line[1:])
