"""CSV records to rows. Changes with what a header or a ragged record means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bucketdex.definition.table import TableDefinition
from bucketdex.source.converter import csv_converter
from bucketdex.source.csvlines import MARK_BYTES_MAX, marked_encoding, text_lines
from bucketdex.source.csvrecords import Records, csv_records
from bucketdex.source.object import ObjectError, RecordBatch, RecordError, Reject
from bucketdex.source.reading import Reading
from bucketdex.source.values import MISSING

COLUMNS_MAX = 10_000


def csv_batches(reading: Reading, chunks: Iterable[bytes]) -> Iterator[RecordBatch]:
    """A batch a block.

    A record's range spans its lines without the last one's end; a record must have a text for every column.
    """
    definition = reading.definition
    columns = _given_columns(definition)
    for records in _parts(definition, chunks):
        if columns is None:
            columns, records = _header(records)
            if columns is None:
                continue
        _check_columns(definition, columns)
        yield _batch(reading, columns, records)


def columns_of(definition: TableDefinition, chunks: Iterable[bytes]) -> tuple[str, ...]:
    """The names of an object's columns; reads no further than the header. ObjectError when there is none."""
    columns = _given_columns(definition)
    for records in _parts(definition, chunks) if columns is None else ():
        columns, _ = _header(records)
        if columns is not None:
            break
    if columns is None:
        raise ObjectError("no header")
    return columns


def original_record(definition: TableDefinition, data: bytes, start: Callable[[], Iterator[bytes]]) -> dict[str, str]:
    """The texts by column of the one record that these bytes are; `start` gives the object from its start.

    ValueError or ObjectError when they aren't one.
    """
    columns = columns_of(definition, start())
    options = definition.source.csv
    encoding = options.encoding
    if encoding in ("utf-16", "utf-32"):  # only the object's start tells the order of bytes
        _, encoding = marked_encoding(next(start())[:MARK_BYTES_MAX], encoding)
    lines = text_lines([data], encoding)
    (cells,) = (
        cells
        for records in csv_records(lines, delimiter=options.delimiter, quote=options.quote)
        for cells in records.cells
    )
    return dict(zip(columns, cells, strict=True))


def _given_columns(definition: TableDefinition) -> tuple[str, ...] | None:
    """The columns that the definition names; None when the object's header does."""
    header = definition.source.csv.header
    if isinstance(header, tuple):
        return header
    return None if header else tuple(field.path[0] for field in definition.fields if field.source == "content")


def _parts(definition: TableDefinition, chunks: Iterable[bytes]) -> Iterator[Records]:
    options = definition.source.csv
    return csv_records(text_lines(chunks, options.encoding), delimiter=options.delimiter, quote=options.quote)


def _header(records: Records) -> tuple[tuple[str, ...] | None, Records]:
    """The columns by the first record, and the other records."""
    cells, ats, lines, faults = records
    if faults and (not lines or faults[0].line < lines[0]):
        raise ObjectError(f"the header is {faults[0].reason}")
    if not cells:
        return None, records
    return tuple(cells[0]), Records(cells[1:], ats[1:], lines[1:], faults)


def _check_columns(definition: TableDefinition, columns: tuple[str, ...]) -> None:
    if len(columns) > COLUMNS_MAX:
        raise ObjectError(f"more than {COLUMNS_MAX} columns")
    counts = Counter(columns)
    content = [field for field in definition.fields if field.source == "content"]
    for field in content:
        if counts[field.path[0]] > 1:
            raise ObjectError(f'{counts[field.path[0]]} columns are named "{field.path[0]}"', field=field.name)
        if field.required and not counts[field.path[0]]:
            raise ObjectError(f'{MISSING}: there is no column "{field.path[0]}"', field=field.name)
    if content and not any(counts[field.path[0]] for field in content):
        raise ObjectError("the header names no column of the table")


def _batch(reading: Reading, columns: tuple[str, ...], records: Records) -> RecordBatch:
    nulls = frozenset(reading.definition.source.csv.null_values)
    delimiter = reading.definition.source.csv.delimiter
    rejects: list[Reject] = []

    def decide(i: int) -> Any:
        cells, at = records.cells[i], records.ats[i]
        try:
            if len(cells) != len(columns):
                raise RecordError(f"{_counted(len(cells))} where there are {_counted(len(columns), 'column')}")
            texts = {name: None if text in nulls else text for name, text in zip(columns, cells, strict=True)}
            return reading.row(texts, at)
        except RecordError as error:
            rejects.append(reading.reject(error, at, records.lines[i], delimiter.join(cells)))
            return None

    convert = csv_converter(reading.definition, columns)
    rows = convert(records.cells, records.ats, reading.key, reading.constants, decide)
    for fault in records.faults:
        rejects.append(reading.reject(RecordError(fault.reason), fault.at, fault.line, fault.text))
    if records.faults:
        rejects.sort(key=lambda reject: reject.line or 0)
    return RecordBatch(rows, rejects)


def _counted(number: int, what: str = "value") -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
