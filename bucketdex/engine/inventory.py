"""Reads a report of S3 Inventory as if it were the listing, for buckets too large to list. Changes with the report's
format.

A report is a day old or more: it names objects that are gone, and not those that are new. Each is looked at as it is
now when it is applied.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Final
from urllib.parse import unquote_plus

import msgspec

from bucketdex.engine.changes import Means
from bucketdex.engine.walk import PAGE_KEYS, TRIES_MAX, Pair, Walk
from bucketdex.errors import AccessDeniedError, BackfillError, KeyMissingError, SnapshotExpiredError, StorageError
from bucketdex.source.object import ObjectError
from bucketdex.source.unpack import unpack
from bucketdex.storage import GetRequest, Listed
from bucketdex.views import OBJECTS
from bucketdex.views.lines import ObjectRow, decode_object

FILE_BYTES_MAX: Final = 2**40  # unpacked; read in pieces
MANIFEST: Final = "manifest.json"

_place = re.compile(r"[0-9]{1,9}:[0-9]{1,15}")


class _File(msgspec.Struct):
    key: str


class _Report(msgspec.Struct, rename="camel"):
    """The members of a report's manifest that matter."""

    source_bucket: str
    destination_bucket: str
    file_format: str
    file_schema: str
    files: list[_File]


def check_report(means: Means, walk: Walk, url: str, *, force: bool = False) -> None:
    """BackfillError for what `Inventory` would refuse, as far as it can be told from here: where the report can't be
    read, or the data bucket isn't known, by the rest. At most one GET.
    """
    try:
        Inventory(means, walk, url, None, force=force)
    except StorageError:
        return
    except BackfillError as error:
        if not isinstance(error.__cause__, AccessDeniedError):
            raise


class Inventory:
    """A report, by the URL of its manifest: s3://bucket/.../manifest.json. `after` is a cursor that `reached` gave.

    Current versions only; keys as they are, not encoded. One GET. BackfillError for a report that isn't there or can't
    be read so, one that doesn't tell which objects changed (unless it is to `force` all of them), and a cursor that is
    none, with what to change; StorageError.
    """

    def __init__(self, means: Means, walk: Walk, url: str, after: str | None, *, force: bool = False) -> None:
        self._report = _opened(means, url)
        self._columns = [name.strip() for name in self._report.file_schema.split(",")]
        if "Key" not in self._columns:
            raise BackfillError(f"{url} has no keys, but {self._report.file_schema}: choose another report")
        if not force and not {"ETag", "LastModifiedDate"} & set(self._columns):
            raise BackfillError(
                f"{url} doesn't tell which objects changed: have the inventory hold ETag or LastModifiedDate, or use "
                "force to read all of them"
            )
        if after and not (_place.fullmatch(after) and int(after.partition(":")[0]) < len(self._report.files)):
            raise BackfillError(
                f"{after!r} is no place in {url}: with an inventory, start_after is a file and a line of it, such as "
                "'0:1000', as the backfill that stopped gave it"
            )
        scheme, _, place = means.data.url.partition("://")
        source, _, prefix = place.partition("/")
        known = means.data is not means.index  # where only the index is known, that stands in for the data
        if known and scheme == "s3" and source != self._report.source_bucket:
            raise BackfillError(
                f"{url} is of bucket {self._report.source_bucket}, the data in {means.data.url}: give a report of that"
            )
        self._prefix = f"{prefix}/" if prefix else ""  # of the data in its bucket
        self._means, self._walk = means, walk
        self._files = means.open_store(f"s3://{self._report.destination_bucket.rpartition(':')[2]}")
        self.reached = after

    def pages(self, page_keys: int | None = None) -> Iterator[Iterator[Pair]]:
        """The pairs by the page of `page_keys` lines, 1,000 unless said otherwise, in the report's order.

        Cost: a GET a file; for each page a GET of the manifest and the look-ups of its keys.
        """
        first, _, skip = (self.reached or "0:0").partition(":")
        done = int(skip)
        for number in range(int(first), len(self._report.files)):
            lines = enumerate(self._lines(self._report.files[number].key), 1)
            for page in _paged(islice(lines, done, None), page_keys or PAGE_KEYS):
                self.reached = f"{number}:{page[-1][0]}"
                yield self._paired(self._read(page, self._report.files[number].key))
            done = 0

    def _lines(self, key: str) -> Iterator[list[str]]:
        try:
            opened = self._files.open(key)
        except KeyMissingError as error:
            raise BackfillError(f"{self._files.url}/{key} of the report is gone: use a newer report") from error
        try:
            lines = csv.reader(_text(unpack(opened.chunks(), unpacked_bytes_max=FILE_BYTES_MAX)))
            yield from lines
        except (ObjectError, csv.Error, UnicodeDecodeError) as error:
            where = f"{self._files.url}/{key} is damaged after line {lines.line_num}"
            raise BackfillError(f"{where}: {error}; use another report") from error
        finally:
            opened.close()

    def _read(self, page: list[tuple[int, list[str]]], file: str) -> list[Listed]:
        """The objects of lines, by number, of a file."""
        found = []
        for number, line in page:
            try:
                listed = self._listed(line)
            except (ValueError, OverflowError) as error:
                raise BackfillError(
                    f"line {number} of {self._files.url}/{file} is damaged: {error}; use another report"
                ) from error
            if listed is not None:
                found.append(listed)
        return found

    def _listed(self, line: list[str]) -> Listed | None:
        """The object of a line, if it is current and the table's. ValueError for what can't be read so."""
        if len(line) != len(self._columns):
            raise ValueError(f"it has {len(line)} columns, its manifest names {len(self._columns)}")
        values = dict(zip(self._columns, line, strict=True))
        if values.get("IsLatest", "true") != "true" or values.get("IsDeleteMarker", "false") == "true":
            return None
        whole = unquote_plus(values["Key"], errors="strict")
        key = whole.removeprefix(self._prefix)
        mine = whole.startswith(self._prefix + self._walk.prefix) and self._walk.definition.match(key) is not None
        if not mine:
            return None
        modified = values.get("LastModifiedDate")
        seconds = datetime.fromisoformat(modified).timestamp() if modified else 0.0
        return Listed(key, int(values.get("Size") or 0), values.get("ETag", ""), seconds)

    def _paired(self, page: list[Listed]) -> Iterator[Pair]:
        rows = self._rows([listed.key for listed in page])
        return (Pair(listed.key, listed, rows.get(listed.key)) for listed in page)

    def _rows(self, keys: list[str]) -> dict[str, ObjectRow]:
        if not keys:
            return {}
        for attempt in range(TRIES_MAX):
            try:
                found = self._walk.snapshot().lookup(OBJECTS, keys)
                return {key: decode_object(entries.lines[-1]) for key, entries in found.items()}
            except SnapshotExpiredError:
                if attempt == TRIES_MAX - 1:
                    raise
        raise AssertionError("unreachable")


def _opened(means: Means, url: str) -> _Report:
    bucket, _, path = url.removeprefix("s3://").partition("/")
    if not (url.startswith("s3://") and bucket and f"/{path}".endswith(f"/{MANIFEST}")):
        raise BackfillError(f"{url!r} is no report: give the URL of its manifest, s3://bucket/.../{MANIFEST}")
    try:
        report = msgspec.json.decode(means.open_store(f"s3://{bucket}").get(GetRequest(path)).body, type=_Report)
    except AccessDeniedError as error:
        raise BackfillError(f"{url} may not be read: see the construct's inventory_bucket ({error})") from error
    except StorageError as error:
        if not isinstance(error, KeyMissingError) and "NoSuchBucket" not in str(error):
            raise
        raise BackfillError(f"there is no report {url}: give the URL of a manifest that is there") from error
    except msgspec.MsgspecError as error:
        raise BackfillError(
            f"{url} is no manifest of S3 Inventory ({error}): give the one that lies in the report's dated folder"
        ) from error
    if report.file_format != "CSV":
        raise BackfillError(f"{url} is in {report.file_format}: choose CSV as the inventory's output format")
    return report


def _paged(lines: Iterable[tuple[int, list[str]]], size: int) -> Iterator[list[tuple[int, list[str]]]]:
    rest = iter(lines)
    while page := list(islice(rest, size)):
        yield page


def _text(pieces: Iterable[bytes]) -> Iterator[str]:
    """The lines of a file: its keys are encoded, so no field holds a line break."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line.decode() for line in lines)
    if rest:
        yield rest.decode()
