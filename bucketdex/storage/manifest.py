"""The manifest's compare-and-swap: the only module that replaces a manifest. Changes with the commit protocol."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from bucketdex.errors import (
    AccessDeniedError,
    BucketdexError,
    KeyMissingError,
    NotModifiedError,
    StorageError,
    TableNotFoundError,
)
from bucketdex.runtime import Runtime
from bucketdex.storage.descriptors import (
    MANIFEST_BYTES_MAX,
    Part,
    Split,
    join_manifest,
    read_part,
    split_manifest,
)
from bucketdex.storage.entries import Manifest, decode_manifest
from bucketdex.storage.paths import is_successor, manifest_path, tables_prefix
from bucketdex.storage.stores import GetRequest, Got, ObjectStore

PUTS_MAX: Final = 10  # of one swap, as long as nobody else comes first
PAUSE_S: Final = 0.05  # the first pause's upper bound; it doubles with each try
PAUSE_MAX_S: Final = 2.0
RELOADS_MAX: Final = 5  # of a manifest whose descriptors vanish while they are fetched


class Versioned(NamedTuple):
    """A whole manifest and the ETag of the object it was read from."""

    manifest: Manifest
    etag: str


class SwapLostError(BucketdexError):
    """Another commit came first; `current` is the manifest that stands now, without ours."""

    def __init__(self, current: Versioned) -> None:
        super().__init__(f"generation {current.manifest.generation} of {current.manifest.table!r} came first")
        self.current = current


class ManifestStore:
    """Loads and replaces the manifests of an index. Safe for use by many threads."""

    def __init__(self, store: ObjectStore, runtime: Runtime, *, bytes_max: int = MANIFEST_BYTES_MAX) -> None:
        self._store = store
        self._once = store.with_retries(False)
        self._runtime = runtime
        self._bytes_max = bytes_max
        self._parts: dict[str, dict[str, Part]] = {}  # by table: the descriptors of the manifest last seen

    def tables(self) -> list[str]:
        """The names of all tables, dropped ones included, successors not. One list request for every 1,000."""
        return [name for name in self._store.folders(tables_prefix()) if not is_successor(name)]

    def load(self, table: str, *, cached: Versioned | None = None) -> Versioned:
        """The manifest as it is now: one GET, and one round more where descriptors have to be fetched.

        `cached` is returned itself when it is still current. A dropped table's manifest is returned too.
        TableNotFoundError when there never was such a table.
        """
        request = self.request(table, cached)
        return self.received(table, self._store.get_many([request])[0], cached)

    def request(self, table: str, cached: Versioned | None = None) -> GetRequest:
        """The GET that `load` sends, for a caller that sends other requests along with it."""
        return GetRequest(manifest_path(table), if_none_match=cached.etag if cached else None)

    def received(self, table: str, answer: Got | StorageError, cached: Versioned | None = None) -> Versioned:
        """What `load` returns for the answer to `request`; raises as it does."""
        for _ in range(RELOADS_MAX):
            if isinstance(answer, NotModifiedError) and cached is not None:
                return cached
            if isinstance(answer, KeyMissingError):
                raise TableNotFoundError(
                    f"there is no table {table!r} in {self._store.url}: define it, or name another (bucketdex tables)"
                ) from answer
            if isinstance(answer, StorageError):
                raise answer
            try:
                return Versioned(self._resolve(decode_manifest(answer.body, manifest_path(table))), answer.etag)
            except KeyMissingError:  # the manifest was replaced since, and its descriptors collected
                answer = self._store.get_many([self.request(table)])[0]
        raise StorageError(f"{manifest_path(table)} names descriptors that do not exist")

    def create(self, table: str, manifest: Manifest) -> Versioned:
        """Write the first manifest of a table. SwapLostError when there is one already, which may be a dropped one."""
        assert manifest.table == table
        return self._replace(None, manifest)

    def swap(self, base: Versioned, new: Manifest) -> Versioned:
        """Replace `base` by `new`, or fail with SwapLostError if another commit replaced it first.

        Returns the manifest that now stands and holds this commit, which may be a later generation. One PUT, plus one
        for each new descriptor, when all goes well. An error of the PUT proves nothing about what was written, so it
        is settled by reading: our commit id in the log means landed; another manifest without it, lost; while the base
        still stands the PUT may yet land, so the same bytes are sent again under the same If-Match. StorageError when
        that remains open after a bounded number of tries: the commit may have landed or not.
        """
        assert new.table == base.manifest.table
        assert new.generation == base.manifest.generation + 1
        return self._replace(base, msgspec.structs.replace(new, descriptors=base.manifest.descriptors))

    def _replace(self, base: Versioned | None, new: Manifest) -> Versioned:
        assert new.log and new.log[-1].id == new.commit and new.log[-1].generation == new.generation
        path = manifest_path(new.table)
        split = split_manifest(new, bytes_max=self._bytes_max)
        for descriptor, body in split.missing.items():
            self._store.put(descriptor, body)
        failure: StorageError | None = None
        for attempt in range(PUTS_MAX):
            if attempt:
                self._runtime.sleep(self._runtime.uniform(0, min(PAUSE_MAX_S, PAUSE_S * 2**attempt)))
            try:
                if base is None:
                    etag = self._once.put(path, split.body, if_absent=True)
                else:
                    etag = self._once.put(path, split.body, if_match=base.etag)
                return self._landed(new, split, etag)
            except StorageError as error:
                failure = error
            settled = self._settle(base, new, split)
            if settled is not None:
                return settled
            if isinstance(failure, AccessDeniedError):
                raise failure
        raise StorageError(
            f"{path}: whether generation {new.generation} was written is unknown: do it again, nothing counts twice"
        ) from failure

    def _settle(self, base: Versioned | None, new: Manifest, split: Split) -> Versioned | None:
        """Whether the PUT landed; None while that is open. SwapLostError when it didn't and never will."""
        try:
            current = self.load(new.table, cached=base)
        except TableNotFoundError:
            if base is not None:
                raise
            return None
        except StorageError:
            return None
        if current is base:
            return None
        if any(entry.id == new.commit for entry in current.manifest.log):
            return current
        raise SwapLostError(current)

    def _landed(self, new: Manifest, split: Split, etag: str) -> Versioned:
        self._parts[new.table] = split.parts
        return Versioned(msgspec.structs.replace(new, descriptors=split.manifest.descriptors), etag)

    def _resolve(self, stored: Manifest) -> Manifest:
        """The whole manifest of a stored one. KeyMissingError when a descriptor is gone."""
        if not stored.descriptors:
            return stored
        known = self._parts.get(stored.table, {})
        missing = [path for path in stored.descriptors if path not in known]
        parts = {path: known[path] for path in stored.descriptors if path in known}
        answers = self._store.get_many([GetRequest(path) for path in missing])
        for path, answer in zip(missing, answers, strict=True):
            if isinstance(answer, StorageError):
                raise answer
            parts[path] = read_part(answer.body, path)
        self._parts[stored.table] = parts
        return join_manifest(stored, parts.values())
