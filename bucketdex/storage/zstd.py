"""Whole zstd frames, with content size and checksum. Changes with Python's zstd modules."""

from __future__ import annotations

import struct
import sys
from typing import Final

if sys.version_info >= (3, 14):
    from compression import zstd as _zstd
else:
    from backports import zstd as _zstd

SKIPPABLE_MAGIC: Final = 0x184D2A50
SKIPPABLE_HEADER: Final = struct.Struct("<II")  # magic, length of the payload

_CHECKED: Final[dict[int, int]] = {
    _zstd.CompressionParameter.checksum_flag: 1,
    _zstd.CompressionParameter.content_size_flag: 1,
}


class FrameCompressor:
    """Makes independent frames with one reused context. Not for use by several threads."""

    def __init__(self, level: int) -> None:
        options: dict[int, int] = {_zstd.CompressionParameter.compression_level: level, **_CHECKED}
        self._compressor = _zstd.ZstdCompressor(options=options)

    def frame(self, data: bytes) -> bytes:
        """One complete frame that holds `data`."""
        return self._compressor.compress(data, _zstd.ZstdCompressor.FLUSH_FRAME)


def compress(data: bytes, level: int = 3) -> bytes:
    """One frame."""
    return FrameCompressor(level).frame(data)


def decompress(frame: bytes, size: int | None = None, *, size_max: int = 1 << 30) -> bytes:
    """The content of exactly one frame, its checksum verified. ValueError for anything else: damage, a cut or longer
    input, a content that isn't `size` bytes or is beyond `size_max` (checked before memory is taken for it)."""
    try:
        known = _zstd.get_frame_info(frame).decompressed_size
        if known is None or known > size_max or (size is not None and known != size):
            raise ValueError(f"a frame of {known} bytes instead of {size}")
        decompressor = _zstd.ZstdDecompressor()
        data = decompressor.decompress(frame)
    except _zstd.ZstdError as error:
        raise ValueError(str(error)) from error
    if not decompressor.eof or decompressor.unused_data or len(data) != known:
        raise ValueError("a frame that is cut short or too long")
    return data


def skippable(payload: bytes) -> bytes:
    """A frame that every zstd decoder skips."""
    return SKIPPABLE_HEADER.pack(SKIPPABLE_MAGIC, len(payload)) + payload


def skipped(frame: bytes) -> bytes:
    """The payload of exactly one skippable frame. ValueError for anything else."""
    if len(frame) < SKIPPABLE_HEADER.size:
        raise ValueError("a skippable frame that is cut short")
    if SKIPPABLE_HEADER.unpack_from(frame) != (SKIPPABLE_MAGIC, len(frame) - SKIPPABLE_HEADER.size):
        raise ValueError("not a skippable frame of this length")
    return frame[SKIPPABLE_HEADER.size :]
