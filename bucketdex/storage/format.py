"""The shape of a file of an index: blocks, filter, footer. Changes with the file format; `docs/format.md` describes it.

file   = block* filter-partition* footer
block  = a zstd frame (content size, checksum) of whole NDJSON lines, each ended by a newline
filter-partition, footer = zstd skippable frames, which every decoder passes over
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from bucketdex.storage.entries import FileEntry

FILE_FORMAT: Final = 1
FILE_READER: Final = 1  # the least version of this format that a reader must know
WEIGHT_MARK: Final = b'{"_w":'


class Footer(msgspec.Struct, frozen=True):
    """The block index of one file: parallel lists, one item a block.

    `separators[i]` <= every sort key of block i and > every one of block i - 1 (the first: <= all). `offsets` and
    `lengths` are in bytes of the file, `sizes` in bytes decompressed, `rows` in lines, `weights` net.
    """

    format: int
    reader: int
    view: str
    separators: list[str]
    offsets: list[int]
    lengths: list[int]
    sizes: list[int]
    rows: list[int]
    weights: list[int]


class EncodedFile(NamedTuple):
    """A finished file and its entry, whose path is still empty: see `placed`."""

    body: bytes
    entry: FileEntry

    def placed(self, path: str) -> FileEntry:
        """The entry once it is known where the file goes."""
        return msgspec.structs.replace(self.entry, path=path)


def separator(low: str, high: str) -> str:
    """The shortest text that is greater than `low` and not greater than `high`, for low < high."""
    assert low < high, "sort keys out of order"
    length = 0
    for a, b in zip(low, high, strict=False):
        if a != b:
            break
        length += 1
    return high[: length + 1]
