"""Files to lines: exact ranges, and checks of what they bring. Changes with the file format."""

from __future__ import annotations

import msgspec

from bucketdex.errors import CorruptFileError, UpgradeRequiredError
from bucketdex.storage.entries import FileEntry
from bucketdex.storage.filter import filter_bytes
from bucketdex.storage.format import FILE_FORMAT, WEIGHT_MARK, Footer
from bucketdex.storage.stores import GetRequest
from bucketdex.storage.zstd import decompress, skipped


class _Versions(msgspec.Struct):
    format: int
    reader: int


_versions = msgspec.json.Decoder(_Versions)
_footers = msgspec.json.Decoder(Footer)


def footer_request(entry: FileEntry) -> GetRequest:
    """The GET of a file's footer."""
    return GetRequest(entry.path, entry.bytes - entry.footer, entry.footer)


def read_footer(body: bytes, entry: FileEntry) -> Footer:
    """The block index, from the answer to `footer_request`, checked against itself and the entry.

    CorruptFileError names the file; UpgradeRequiredError when the file needs a newer reader.
    """
    try:
        content = decompress(skipped(body))
        versions = _versions.decode(content)
        if versions.reader > FILE_FORMAT:
            raise UpgradeRequiredError(
                f"{_name(entry)} needs a reader of file format {versions.reader}; this one knows {FILE_FORMAT}: "
                "upgrade bucketdex"
            )
        footer = _footers.decode(content)
    except (ValueError, msgspec.DecodeError) as error:
        raise CorruptFileError(f"{_name(entry)}: the footer is damaged: {error}") from error
    offset = 0
    for start, length in zip(footer.offsets, footer.lengths, strict=False):
        if start != offset or length <= 0:
            raise CorruptFileError(f"{_name(entry)}: the blocks of the footer are not one after another")
        offset += length
    columns = (footer.offsets, footer.lengths, footer.sizes, footer.rows, footer.weights)
    counted = (sum(footer.rows), sum(footer.weights), offset + filter_bytes(entry.filter) + entry.footer)
    if any(len(column) != len(footer.separators) for column in columns) or counted != (
        entry.rows,
        entry.weight,
        entry.bytes,
    ):
        raise CorruptFileError(f"{_name(entry)}: the footer doesn't fit the manifest's entry")
    return footer


def block_request(entry: FileEntry, footer: Footer, index: int) -> GetRequest:
    """The GET of one block."""
    return GetRequest(entry.path, footer.offsets[index], footer.lengths[index])


def read_block(body: bytes, entry: FileEntry, footer: Footer, index: int) -> bytes:
    """The NDJSON lines of one block, each ended by a newline, from the answer to `block_request`.

    Checksum, size and row count are verified; CorruptFileError names the file.
    """
    try:
        if len(body) != footer.lengths[index]:
            raise ValueError(f"{len(body)} bytes instead of {footer.lengths[index]}")
        lines = decompress(body, footer.sizes[index])
        if lines.count(b"\n") != footer.rows[index] or not lines.endswith(b"\n"):
            raise ValueError(f"not {footer.rows[index]} lines")
    except ValueError as error:
        raise CorruptFileError(f"{_name(entry)}: block {index} is damaged: {error}") from error
    return lines


def read_file(body: bytes, entry: FileEntry) -> list[bytes]:
    """All blocks of a file that was read whole, decompressed and verified as by `read_footer` and `read_block`."""
    if len(body) != entry.bytes:
        raise CorruptFileError(f"{_name(entry)}: {len(body)} bytes instead of {entry.bytes}")
    footer = read_footer(body[len(body) - entry.footer :], entry)
    view = memoryview(body)
    return [
        read_block(bytes(view[start : start + length]), entry, footer, index)
        for index, (start, length) in enumerate(zip(footer.offsets, footer.lengths, strict=True))
    ]


def split_weights(block: bytes) -> tuple[list[bytes], list[int] | None]:
    """The lines of a block without their newlines and weights, and the weights (None: all 1)."""
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    if WEIGHT_MARK not in block:
        return lines, None
    weights = [1] * len(lines)
    start = len(WEIGHT_MARK)
    for index, line in enumerate(lines):
        if line.startswith(WEIGHT_MARK):
            comma = line.index(b",", start)
            weights[index] = int(line[start:comma])
            lines[index] = b"{" + line[comma + 1 :]
    return lines, weights


def _name(entry: FileEntry) -> str:
    return entry.path or "an inlined delta"
