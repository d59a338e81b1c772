"""Lines of text to CSV records with their byte ranges. Changes with how records are told apart.

The grammar is the csv module's in strict mode: quotes double within quotes, and after a closing quote only a
delimiter or the line's end may follow. A record that breaks it, or whose quote never closes, costs only the line it
started on: reading goes on with the next one.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from operator import sub
from typing import NamedTuple

from bucketdex.source.csvlines import Lines
from bucketdex.source.lines import RECORD_BYTES_MAX, TOO_LONG
from bucketdex.source.object import At, ObjectError

REREAD_BYTES_MAX = 8 * RECORD_BYTES_MAX
"""How much may be read again after quotes that didn't close; beyond, a hostile object would take quadratic time."""


class Fault(NamedTuple):
    """A stretch that is no record."""

    reason: str
    at: At
    line: int
    text: str


class Records(NamedTuple):
    """Records as lists of texts, where each is (without its line end), the line it starts on; and what is no record."""

    cells: list[list[str]]
    ats: list[At]
    lines: list[int]
    faults: list[Fault]


def csv_records(blocks: Iterable[Lines], *, delimiter: str, quote: str) -> Iterator[Records]:
    """The records of lines, blank ones left out. Holds a block and at most about twice the longest record."""
    if csv.field_size_limit() < RECORD_BYTES_MAX:
        csv.field_size_limit(RECORD_BYTES_MAX)  # of the whole process; only ever raised
    splitter = _Splitter(delimiter, quote)
    waiting: list[Lines] = []
    try:
        for lines in blocks:
            waiting.append(lines)
            if sum(_extent(part) for part in waiting) >= 2 * splitter.open_bytes:
                yield splitter.split(waiting, final=False)
                waiting = []
    except ObjectError:
        yield splitter.split(waiting, final=False)
        raise
    yield splitter.split(waiting, final=True)


def _extent(lines: Lines) -> int:
    return lines.ends[-1] - lines.starts[0]


def _fault_within(faults: dict[int, str], start: int, stop: int) -> str | None:
    return next((faults[i] for i in range(start, stop) if i in faults), None) if faults else None


class _Feed:
    """Lines for a csv reader, from a position that can be set back."""

    def __init__(self, texts: list[str]) -> None:
        self.texts, self.position, self.exhausted = texts, 0, False

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        if self.position == len(self.texts):
            self.exhausted = True
            raise StopIteration
        text = self.texts[self.position]
        self.position += 1
        return text


class _Splitter:
    """Keeps the lines of a record that isn't complete yet."""

    def __init__(self, delimiter: str, quote: str) -> None:
        self._delimiter, self._quote = delimiter, quote
        self._open = Lines([], [], [], {})
        self._line = 1  # of the first open line, or else of the next
        self._reread_bytes = 0
        self.open_bytes = 0

    def split(self, blocks: list[Lines], *, final: bool) -> Records:
        """The records that end in these blocks."""
        lines = _joined([self._open, *blocks])
        if not lines.texts:
            return Records([], [], [], [])
        try:
            cells = list(self._reader(lines.texts))
        except csv.Error:
            cells = []
        long = _extent(lines) > RECORD_BYTES_MAX
        if len(cells) == len(lines.texts) and all(cells) and not lines.faults and not long:
            ats = list(zip(lines.starts, map(sub, lines.ends, lines.starts), strict=True))
            numbers = list(range(self._line, self._line + len(cells)))
            self._keep(lines, len(cells))
            return Records(cells, ats, numbers, [])
        return self._split_carefully(lines, final)

    def _split_carefully(self, lines: Lines, final: bool) -> Records:
        out = Records([], [], [], [])
        feed = _Feed(lines.texts)
        reader = self._reader(feed)
        start = 0
        while start < len(lines.texts):
            reason, cells = None, None
            try:
                cells = next(reader)
            except csv.Error as error:
                reason = "a quote that never closes" if feed.exhausted else f"malformed CSV: {error}"
            stop = feed.position
            span = lines.ends[stop - 1] - lines.starts[start]
            if span > RECORD_BYTES_MAX and (stop > start + 1 or feed.exhausted):
                reason = f"{TOO_LONG}; a quote may not close"
            elif feed.exhausted and not final:
                break
            faulty = _fault_within(lines.faults, start, stop)
            if reason is not None:
                stop = start + 1
                self._spend(min(span, RECORD_BYTES_MAX), feed.position - start)
                feed.position, feed.exhausted = stop, False
                reason = lines.faults.get(start, reason)
            at = (lines.starts[start], lines.ends[stop - 1] - lines.starts[start])
            if reason or faulty:
                out.faults.append(Fault(reason or faulty or "", at, self._line + start, lines.texts[start]))
            elif cells:
                out.cells.append(cells)
                out.ats.append(at)
                out.lines.append(self._line + start)
            start = stop
        self._keep(lines, start)
        return out

    def _reader(self, texts: Iterable[str]) -> Iterator[list[str]]:
        return csv.reader(texts, delimiter=self._delimiter, quotechar=self._quote, strict=True)

    def _spend(self, span: int, lines: int) -> None:
        if lines > 1:
            self._reread_bytes += span
            if self._reread_bytes > REREAD_BYTES_MAX:
                raise ObjectError("too many quotes that never close")

    def _keep(self, lines: Lines, start: int) -> None:
        self._line += start
        faults = {i - start: reason for i, reason in lines.faults.items() if i >= start}
        self._open = Lines(lines.texts[start:], lines.starts[start:], lines.ends[start:], faults)
        self.open_bytes = _extent(self._open) if self._open.texts else 0


def _joined(parts: list[Lines]) -> Lines:
    if len(parts) == 2 and not parts[0].texts:
        return parts[1]
    out = Lines([], [], [], {})
    for part in parts:
        out.faults.update({i + len(out.texts): reason for i, reason in part.faults.items()})
        out.texts.extend(part.texts)
        out.starts.extend(part.starts)
        out.ends.extend(part.ends)
    return out
