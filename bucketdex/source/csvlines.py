"""CSV bytes to lines of text that know their bytes. Changes with what encodings a CSV may have."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import accumulate
from operator import add
from typing import NamedTuple

from bucketdex.source.lines import RECORD_BYTES_MAX, TOO_LONG, Block, line_blocks
from bucketdex.source.object import ObjectError

_ASCII = "".join(map(chr, range(128)))
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
          (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
_HALF = "\udfff".encode("utf-8", "surrogatepass")  # stands for bytes that end within a character
MARK_BYTES_MAX = 4
STATEFUL = ("iso2022", "hz", "utf-7")


class Lines(NamedTuple):
    """Physical lines: texts with their line ends, where each starts, and where its text (without line end) ends.

    `faults` says why a line's text isn't what the bytes say: it is then only of use to find records' ends.
    """

    texts: list[str]
    starts: list[int]
    ends: list[int]
    faults: dict[int, str]


def text_lines(chunks: Iterable[bytes], encoding: str) -> Iterator[Lines]:
    """The lines of a CSV, a block at a time. A line ends at \\n, \\r or \\r\\n. A byte order mark is passed over."""
    source = iter(chunks)
    head = b""
    for chunk in source:
        head += chunk
        if len(head) >= MARK_BYTES_MAX:
            break
    mark, encoding = marked_encoding(head, encoding)
    rest = _chained(head[mark:], source)
    if not _bytewise(encoding):
        yield from _wide_lines(rest, encoding, mark)
        return
    for block in line_blocks(rest, lone_returns=True):
        yield _block_lines(block, encoding, mark + block.offset)


def marked_encoding(head: bytes, encoding: str) -> tuple[int, str]:
    """The length of the byte order mark, and the encoding without doubt about the order of bytes."""
    for mark, kind in _MARKS:
        if not head.startswith(mark):
            continue
        if not encoding.replace("_", "-").startswith(kind):
            raise ObjectError(f"starts with the byte order mark of {kind}, but the table's encoding is {encoding}")
        order = {codecs.BOM_UTF16_LE: "-le", codecs.BOM_UTF32_LE: "-le", codecs.BOM_UTF8: ""}.get(mark, "-be")
        return len(mark), kind + order
    return 0, {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}.get(encoding, encoding)


def _chained(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from rest


@cache
def _bytewise(encoding: str) -> bool:
    """Whether line ends can be found in the bytes, as the encoding extends ASCII. False for UTF-16 and UTF-32."""
    try:
        if not encoding.startswith(STATEFUL) and bytes(range(128)).decode(encoding) == _ASCII:
            return True
    except UnicodeError:
        pass
    if encoding.startswith(("utf-16", "utf-32")):
        return False
    raise ObjectError(f"the encoding {encoding} is not supported; convert to UTF-8")


def _block_lines(block: Block, encoding: str, offset: int) -> Lines:
    if block.skipped:
        return Lines(["\n"], [offset], [offset + block.skipped], {0: TOO_LONG})
    data = block.data
    lines = data.splitlines(keepends=True)
    starts = list(accumulate(map(len, lines), initial=offset))
    starts.pop()
    ends = list(map(add, starts, map(len, data.splitlines())))
    faults: dict[int, str] = {}
    texts: list[str] = []
    try:
        texts = data.decode(encoding).splitlines(keepends=True)
        if len(texts) != len(lines):  # text has line ends that CSV doesn't, such as U+2028
            texts = [line.decode(encoding) for line in lines]
    except UnicodeDecodeError:
        texts = [_decoded(line, encoding, i, faults) for i, line in enumerate(lines)]
    if len(data) > RECORD_BYTES_MAX:
        _cut_long(texts, starts, ends, faults)
    return Lines(texts, starts, ends, faults)


def _decoded(line: bytes, encoding: str, i: int, faults: dict[int, str]) -> str:
    try:
        return line.decode(encoding)
    except UnicodeDecodeError as error:
        faults[i] = f"not valid {encoding} (byte {error.start + 1} of line)"
        return line.decode(encoding, "replace")


def _cut_long(texts: list[str], starts: list[int], ends: list[int], faults: dict[int, str]) -> None:
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if end - start > RECORD_BYTES_MAX:
            texts[i], faults[i] = "\n", TOO_LONG


def _wide_lines(chunks: Iterable[bytes], encoding: str, mark: int) -> Iterator[Lines]:
    """By way of UTF-8, in which bytes can be searched; then every line is measured in its own encoding again."""
    offset = mark
    for block in line_blocks(_transcoded(chunks, encoding), lone_returns=True):
        if block.skipped:
            raise ObjectError(f"a line {TOO_LONG}")
        texts, _, _, faults = _block_lines(block, "utf-8", 0)
        lines = block.data.splitlines(keepends=True)
        sizes = [_size(line, encoding) for line in lines]
        starts = list(accumulate(sizes, initial=offset))
        offset = starts.pop()
        ends = [s + _size(line, encoding) for s, line in zip(starts, block.data.splitlines(), strict=True)]
        yield Lines(texts, starts, ends, dict.fromkeys(faults, f"not valid {encoding}"))


def _size(line: bytes, encoding: str) -> int:
    return len(line.decode("utf-8", "surrogatepass").encode(encoding, "surrogatepass"))


def _transcoded(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    try:
        for chunk in chunks:
            yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
        if decoder.getstate()[0]:
            yield _HALF
    except UnicodeDecodeError:
        raise ObjectError(f"not valid {encoding}") from None
