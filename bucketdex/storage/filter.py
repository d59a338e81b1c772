"""Which first components a file may hold: a Bloom filter in partitions that are read one at a time.

Changes with the filter's format. A lookup reads one partition (at most 4 KiB) to learn, but for about 1 case in 90,
that a file doesn't hold what it asks for. After B. H. Bloom, "Space/Time Trade-offs in Hash Coding with Allowable
Errors" (1970), with all probes of a key in one partition.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable
from typing import Final
from zlib import crc32

from bucketdex.errors import CorruptFileError
from bucketdex.storage.entries import FileEntry
from bucketdex.storage.stores import GetRequest
from bucketdex.storage.zstd import SKIPPABLE_HEADER, skippable, skipped

BITS_PER_KEY: Final = 10
PARTITION_BYTES_MIN: Final = 16
PARTITION_BYTES_MAX: Final = 4096
CHECKSUM: Final = struct.Struct("<I")
OVERHEAD: Final = SKIPPABLE_HEADER.size + CHECKSUM.size

_GOLDEN: Final = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio: Knuth's multiplicative hashing
_SHIFTS: Final = (49, 34, 19, 4)  # of four probes: 15 bits each of the product, as many as address 4 KiB
_ASCII_DIGITS: Final = bytes([48, 49]) + bytes(254)  # 0 and 1 as digits


def digests(components: Iterable[str]) -> Iterable[int]:
    """What a filter keeps of first components (without their U+0000)."""
    return map(crc32, map(str.encode, components))


def build_filter(digests: Collection[int]) -> tuple[bytes, tuple[int, int]]:
    """The frames of a filter over the digests of distinct first components, and (partitions, bytes in each)."""
    wanted = max(PARTITION_BYTES_MIN, -(-len(digests) * BITS_PER_KEY // 8))
    size = min(PARTITION_BYTES_MAX, 1 << (wanted - 1).bit_length())
    count = -(-wanted // size)
    # A byte for each bit: setting one is a single store, and all are packed at once at the end.
    flags = bytearray(count * size * 8)
    width, mask = size * 8, size * 8 - 1
    for digest in digests:
        base = digest % count * width
        product = digest * _GOLDEN  # the shifts are written out: this loop is most of what a filter costs
        flags[base + (product >> 49 & mask)] = 1
        flags[base + (product >> 34 & mask)] = 1
        flags[base + (product >> 19 & mask)] = 1
        flags[base + (product >> 4 & mask)] = 1
    flags.reverse()  # bit i of the filter becomes bit i of the number
    packed = int(flags.translate(_ASCII_DIGITS), 2).to_bytes(count * size, "little")
    parts = (packed[start : start + size] for start in range(0, len(packed), size))
    return b"".join(skippable(CHECKSUM.pack(crc32(part)) + part) for part in parts), (count, size)


def filter_bytes(shape: tuple[int, int]) -> int:
    """The size of all partitions with their frames."""
    count, size = shape
    return count * (size + OVERHEAD)


def filter_request(entry: FileEntry, component: str) -> GetRequest:
    """The GET of the one partition that knows of a component. The file must have a filter."""
    count, size = entry.filter
    assert count, "the file has no filter"
    frame = size + OVERHEAD
    start = entry.bytes - entry.footer - filter_bytes(entry.filter)
    return GetRequest(entry.path, start + _digest(component) % count * frame, frame)


def may_contain(body: bytes, entry: FileEntry, component: str) -> bool:
    """Whether the file may hold sort keys that begin with `component` (up to its first U+0000, which may be left out).

    False is certain. `body` is the answer to `filter_request`; CorruptFileError names the file when it is damaged.
    """
    size = entry.filter[1]
    try:
        payload = skipped(body)
        part = payload[CHECKSUM.size :]
        if len(part) != size or CHECKSUM.unpack_from(payload)[0] != crc32(part):
            raise ValueError("checksum or size of a filter partition")
    except (ValueError, struct.error) as error:
        raise CorruptFileError(f"{entry.path or 'an inlined delta'}: the filter is damaged: {error}") from error
    product = _digest(component) * _GOLDEN
    mask = size * 8 - 1
    for shift in _SHIFTS:
        bit = product >> shift & mask
        if not part[bit >> 3] >> (bit & 7) & 1:
            return False
    return True


def _digest(component: str) -> int:
    return crc32(component.partition("\x00")[0].encode())
