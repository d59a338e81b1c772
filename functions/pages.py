"""Pages of keys as queue messages: what the backfiller sends and the indexer reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from bucketdex.storage import Listed

PAGE = "backfill"  # the member that tells such a message from S3's events
KEYS_MAX = 100
BODY_BYTES_MAX = 200_000  # of 262,144 that SQS takes
OBJECT_BYTES_MAX = 32 * 2**20  # of all objects of a message together: handled in minutes, and again after a failure


def page_bodies(job: str, table: str, due: Iterable[Listed]) -> Iterator[str]:
    """The messages for these objects, in ASCII: keys may hold characters that SQS refuses. An object that is large goes
    by itself, as its event does.
    """
    head = json.dumps({PAGE: {"job": job, "table": table, "keys": []}})
    keys: list[list[object]] = []
    body_bytes = object_bytes = 0
    for listed in due:
        entry = [listed.key, listed.size]
        entry_bytes = len(json.dumps(entry)) + 2
        full = len(keys) == KEYS_MAX or len(head) + body_bytes + entry_bytes > BODY_BYTES_MAX
        if keys and (full or object_bytes + listed.size > OBJECT_BYTES_MAX):
            yield json.dumps({PAGE: {"job": job, "table": table, "keys": keys}})
            keys, body_bytes, object_bytes = [], 0, 0
        keys.append(entry)
        body_bytes += entry_bytes
        object_bytes += listed.size
    if keys:
        yield json.dumps({PAGE: {"job": job, "table": table, "keys": keys}})


def read_page(body: dict[str, Any]) -> tuple[str, list[tuple[str, int]]]:
    """The table of a page message, and its keys with their sizes. KeyError, TypeError, ValueError for anything else."""
    page = body[PAGE]
    return str(page["table"]), [(str(key), int(size)) for key, size in page["keys"]]
