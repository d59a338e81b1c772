"""What an error says: what to do, and that what it says to do helps."""

from __future__ import annotations

import pickle
import random
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from enginekit import DEFINITION, Bench, documents

import bucketdex
from bucketdex import errors
from bucketdex.client import Database
from bucketdex.definition import TableDefinition
from bucketdex.engine import Engine, Settings
from bucketdex.errors import (
    BackfillError,
    BucketdexError,
    CorruptFileError,
    CorruptManifestError,
    SnapshotExpiredError,
    StorageError,
    TableNotFoundError,
)
from bucketdex.storage import GetRequest, Got, Listed, ManifestStore, manifest_path
from bucketdex.storage.stores import resuming
from bucketdex.views import BlockCache
from bucketdex.views.snapshot import visible

PACKAGE = Path(bucketdex.__file__).parent


def filled() -> Bench:
    bench = Bench(settings=Settings())
    for number in range(3):
        bench.put(f"orders/{number}", documents(random.Random(number), 200))
    return bench


def indexed() -> Bench:
    bench = filled()
    bench.engine.backfill("orders")
    bench.engine.compact("orders", mode="full")
    return bench


def dropped() -> Bench:
    bench = indexed()
    bench.engine.drop_table("orders")
    return bench


def disordered() -> Bench:
    bench = filled()
    listed = [Listed(f"orders/{number}", 1, "", 0.0) for number in (2, 1)]
    bench.data.list = lambda *_, **__: iter(listed)  # type: ignore[method-assign]
    return bench


def over(state: str) -> Bench:
    bench = filled()
    bench.engine.start_backfill("orders")
    bench.engine.jobs.change("orders", lambda job: msgspec.structs.replace(job, state=state))
    return bench


def unwritable() -> Bench:
    bench = indexed()

    def failing(*_: object, **__: object) -> str:
        raise StorageError("no answer")

    bench.engine._manifests._once.put = failing  # type: ignore[method-assign, assignment]
    return bench


def broken(body: bytes, size: int) -> None:
    for _ in resuming(Got("k", b"", "e", size, 0.0), [body], lambda _: iter(()), (OSError,)):
        pass


@pytest.mark.parametrize(
    ("raising", "kind", "remedy"),
    [
        (lambda: dropped().engine.rebuild("orders"), TableNotFoundError, "was dropped: define it again, or deploy it"),
        (lambda: dropped().engine.backfill("orders"), TableNotFoundError, "was dropped: define it again, or deploy it"),
        (
            lambda: Database(dropped().index).table("orders").count(),
            TableNotFoundError,
            "was dropped: define it again, or deploy it",
        ),
        (lambda: filled().engine.load("none"), TableNotFoundError, r"define it, or name another \(bucketdex tables\)"),
        (lambda: disordered().engine.backfill("orders"), StorageError, "use a general purpose bucket"),
        (lambda: filled().engine.backfill("orders", prefix="x/"), BucketdexError, "with 'orders/', so do so too"),
        (lambda: over("done").engine.jobs.pause("orders"), BackfillError, "start another, where one is needed"),
        (lambda: over("cancelled").engine.jobs.resume("orders"), BackfillError, "start another, where one is needed"),
        (lambda: over("failed").engine.jobs.pause("orders"), BackfillError, "resume it first"),
        (lambda: unwritable().apply("orders/1"), StorageError, "do it again, nothing counts twice"),
        (lambda: broken(b"ab", 3), StorageError, "breaks off at byte 2 of 3: read it again"),
        (lambda: broken(b"abcd", 3), StorageError, "4 bytes instead of 3: read it again"),
        (
            lambda: visible(indexed().engine.load("orders").manifest, "objects", 0),
            SnapshotExpiredError,
            "begin anew, from the newest",
        ),
    ],
)
def test_the_message_says_what_to_do(raising: Callable[[], object], kind: type[Exception], remedy: str) -> None:
    with pytest.raises(kind, match=remedy):
        raising()


def test_a_damaged_file_is_mended_as_its_error_says() -> None:
    bench = indexed()
    [entry] = bench.engine.load("orders").manifest.views["records"].runs[0].files
    body = bench.index.get(GetRequest(entry.path)).body
    bench.index.put(entry.path, body[:20] + bytes([body[20] ^ 1]) + body[21:])
    again = Engine(bench.index, bench.data, bench.runtime, settings=bench.settings, cache=BlockCache())
    with pytest.raises(CorruptFileError, match=rf"{entry.path}.*try again; if it stays damaged, bucketdex rebuild"):
        again.verify("orders", deep=True)
    again.rebuild("orders")
    again.build_successor("orders")
    assert again.verify("orders", deep=True).is_good and bench.contents() == bench.rebuilt()


def test_a_damaged_view_has_one_remedy_its_own() -> None:
    bench = indexed()
    [entry] = bench.engine.load("orders").manifest.views["by_amount"].runs[0].files
    body = bench.index.get(GetRequest(entry.path)).body
    bench.index.put(entry.path, body[:20] + bytes([body[20] ^ 1]) + body[21:])
    again = Engine(bench.index, bench.data, bench.runtime, settings=bench.settings, cache=BlockCache())
    wrong = again.verify("orders", deep=True).views
    assert wrong.keys() == {"by_amount"} and entry.path in wrong["by_amount"] and "try again" not in wrong["by_amount"]


def test_a_damaged_manifest_is_mended_as_its_error_says() -> None:
    bench = indexed()
    bench.index.put(manifest_path("orders"), b"{")
    with pytest.raises(CorruptManifestError, match="delete all below tables/<table>/ in the index"):
        ManifestStore(bench.index, bench.runtime).load("orders")
    bench.index.delete_many([listed.key for listed in bench.index.list("tables/orders/")])
    bench.engine.define(TableDefinition.from_dict("orders", DEFINITION.to_dict()))
    bench.engine.backfill("orders")
    assert bench.engine.verify("orders", deep=True).is_good and bench.contents() == bench.rebuilt()


def test_a_remedy_is_said_once() -> None:
    error = pickle.loads(pickle.dumps(CorruptFileError("f is damaged")))
    assert str(error).count("try again") == 1 and str(error).startswith("f is damaged; ")


def test_every_error_is_exported_and_used() -> None:
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert kinds <= set(bucketdex.__all__)
    others = [path for path in PACKAGE.rglob("*.py") if path not in (PACKAGE / "errors.py", PACKAGE / "__init__.py")]
    used = set(re.findall(r"\w+Error\b", "".join(path.read_text() for path in others)))
    assert kinds <= used
