"""Talking to SQS: in tens, and without letting a courtesy fail the work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from functions.observability import logger

T = TypeVar("T")

ENTRIES_MAX = 10  # of a batch call


def tens(items: Iterable[T]) -> Iterator[list[T]]:
    """The items in lists that one batch call takes."""
    rest = iter(items)
    while some := list(islice(rest, ENTRIES_MAX)):
        yield some


@contextmanager
def only_logged(consequence: str) -> Iterator[None]:
    """Logs an error inside, with what follows from it, and goes on."""
    try:
        yield
    except Exception:
        logger.exception(consequence)
