"""Records made by a user's function. Changes with what such a function is given and gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import import_module
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
    extract = load_extractor(reading.definition.source.extractor or "")
    batch = RecordBatch([], [])
    for number, record in enumerate(_given(extract, document(chunks))):
        if isinstance(record, ObjectError):
            yield batch
            raise record
        at = (number, 0)
        try:
            batch.rows.append(reading.row(record, at))
        except RecordError as error:
            batch.rejects.append(reading.reject(error, at, None))
        if number % BATCH_RECORDS == BATCH_RECORDS - 1:
            yield batch
            batch = RecordBatch([], [])
    yield batch


def _given(extract: Callable[[bytes], Iterable[Any]], data: bytes) -> Iterator[Any]:
    """What the function gives.

    Its failure, the last item, is the object's; it may quote anything, so only its type is told.
    """
    try:
        yield from extract(data)
    except Exception as error:
        failure = ObjectError(f"the extractor failed with {type(error).__name__}")
        failure.__cause__ = error
        yield failure
