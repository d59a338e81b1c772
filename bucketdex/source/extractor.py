"""Records made by a user's function. Changes with what such a function is given and gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import import_module
from itertools import islice
from typing import Any

from bucketdex.errors import DefinitionError
from bucketdex.source.object import ObjectError, RecordBatch, RecordError
from bucketdex.source.reading import Reading, document

BATCH_RECORDS = 10_000


@cache
def load_extractor(name: str) -> Callable[[bytes], Iterable[Any]]:
    """The function of "module:function"; DefinitionError when it isn't there."""
    module, _, function = name.partition(":")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise DefinitionError(f'source.extractor: can\'t import "{name}"; put its module beside the package') from error
    if not callable(found):
        raise DefinitionError(
            f'source.extractor: "{name}" is not a function; name one that takes bytes and gives dicts'
        )
    extract: Callable[[bytes], Iterable[Any]] = found
    return extract


def extractor_batches(reading: Reading, chunks: Iterable[bytes]) -> Iterator[RecordBatch]:
    """The records that the extractor gives for the unpacked bytes. They have no range: `at` is (their number, 0)."""
    given = extracted(reading.definition.source.extractor or "", document(chunks))
    batch = RecordBatch([], [])
    try:
        for number, record in enumerate(given):
            at = (number, 0)
            try:
                batch.rows.append(reading.row(record, at))
            except RecordError as error:
                batch.rejects.append(reading.reject(error, at, None))
            except Exception as error:  # its members are made as they are read, and the error may quote them
                failure = RecordError(f"its members can't be read ({type(error).__name__})")
                batch.rejects.append(reading.reject(failure, at, None))
            if number % BATCH_RECORDS == BATCH_RECORDS - 1:
                yield batch
                batch = RecordBatch([], [])
    except ObjectError:
        yield batch
        raise
    yield batch


def extracted(name: str, data: bytes) -> Iterator[Any]:
    """What the function gives for the unpacked bytes of an object.

    ObjectError when it fails. Its own error may quote anything, so only its type is told, and it is no cause.
    """
    extract = load_extractor(name)
    try:
        yield from extract(data)
        return
    except (Exception, SystemExit) as error:
        kind = type(error).__name__
    raise ObjectError(f"the extractor failed with {kind}")


def extracted_record(name: str, data: bytes, number: int) -> dict[str, Any]:
    """The record of that number, from 0. ValueError when there is none; ObjectError as `extracted`, and when its
    members can't be read.
    """
    (record,) = islice(extracted(name, data), number, number + 1)
    try:
        return dict(record)
    except Exception as error:
        kind = type(error).__name__
    raise ObjectError(f"its members can't be read ({kind})")
