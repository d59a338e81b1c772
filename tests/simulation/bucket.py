"""A bucket with S3's semantics: strong consistency, conditional PUTs, versions and delete markers, sequencers, events."""

from __future__ import annotations

import builtins
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from bucketdex.errors import KeyMissingError, NotModifiedError, PreconditionFailedError, StorageError
from bucketdex.storage import GetRequest, Got, Listed


class Version(NamedTuple):
    """One version of an object; without a body it is a delete marker."""

    body: bytes | None
    etag: str
    at: float


Announce = Callable[[str, str, str], None]  # (kind, key, sequencer)


class Watcher(Protocol):
    """Is told of every change after it has happened."""

    def written(self, key: str, body: bytes) -> None:
        """An object was put."""

    def forgotten(self, key: str) -> None:
        """An object is gone."""


class Bucket:
    """Every method is one atomic step of the world."""

    def __init__(self, clock: Callable[[], float], announce: Announce | None = None) -> None:
        self._clock, self._announce = clock, announce
        self.watcher: Watcher | None = None
        self.bodies: dict[str, bytes] = {}  # everything that was ever put, by ETag
        self.states: dict[str, builtins.list[str | None]] = {}  # ETags that each key has had; None: no object
        self.archived: set[str] = set()  # keys whose current object can't be read until it is restored
        self._versions: dict[str, list[Version]] = {}
        self._sequence: Counter[str] = Counter()

    def current(self, key: str) -> Version | None:
        """The current version, unless it is a delete marker."""
        versions = self._versions.get(key)
        return versions[-1] if versions and versions[-1].body is not None else None

    def changes(self, key: str) -> int:
        """How often the key's object has changed."""
        return self._sequence[key]

    def live_keys(self) -> builtins.list[str]:
        return sorted(key for key in self._versions if self.current(key))

    def get(self, request: GetRequest) -> Got:
        version = self.current(request.key)
        if version is None or version.body is None:
            raise KeyMissingError(request.key)
        if request.if_none_match == version.etag:
            raise NotModifiedError(request.key)
        if request.if_match is not None and request.if_match != version.etag:
            raise PreconditionFailedError(request.key)
        body = version.body
        if request.start is not None:
            if request.start >= len(body):
                raise StorageError(f"{request.key}: range past the end")
            body = body[request.start : None if request.length is None else request.start + request.length]
        return Got(request.key, body, version.etag, len(version.body), version.at)

    def put(self, key: str, body: bytes, *, if_match: str | None = None, if_absent: bool = False) -> str:
        version = self.current(key)
        if if_absent and version is not None:
            raise PreconditionFailedError(key)
        if if_match is not None and (version is None or version.etag != if_match):
            raise PreconditionFailedError(key)
        etag = hashlib.md5(body).hexdigest()
        self.bodies[etag] = body
        self._versions.setdefault(key, []).append(Version(body, etag, self._clock()))
        self._changed("created", key)
        if self.watcher is not None:
            self.watcher.written(key, body)
        return etag

    def delete(self, key: str) -> None:
        """Puts a delete marker on top."""
        self._versions.setdefault(key, []).append(Version(None, "", self._clock()))
        self._changed("removed", key)

    def delete_current_version(self, key: str) -> None:
        """Removes the newest version for good, which exposes the one before."""
        if self._versions.get(key):
            self._versions[key].pop()
            self._changed("removed", key)

    def restore(self, key: str) -> None:
        """An archived object can be read again."""
        self._changed("other", key)

    def forget(self, key: str) -> None:
        """A delete in an unversioned bucket."""
        if self._versions.pop(key, None) is not None and self.watcher is not None:
            self.watcher.forgotten(key)

    def list(self, prefix: str, start_after: str | None = None) -> Iterator[Listed]:
        found = [key for key in self._versions if key.startswith(prefix) and (not start_after or key > start_after)]
        for key in sorted(found):
            version = self.current(key)
            if version is not None and version.body is not None:
                yield Listed(key, len(version.body), version.etag, version.at)

    def _changed(self, kind: str, key: str) -> None:
        self.archived.discard(key)
        self._sequence[key] += 1
        version = self.current(key)
        self.states.setdefault(key, [None]).append(None if version is None else version.etag)
        if self._announce is not None:
            self._announce(kind, key, f"{self._sequence[key]:018X}")
