"""Puts a commit into a manifest: its delta or runs, its log entry, what it touched, and what came in between."""

from __future__ import annotations

from array import array
from collections.abc import Container

import msgspec

from bucketdex.engine.draft import Built
from bucketdex.engine.settings import Settings
from bucketdex.errors import KeyMissingError
from bucketdex.runtime import Runtime
from bucketdex.storage import (
    Delta,
    EncodedFile,
    FileEntry,
    GetRequest,
    LogEntry,
    Manifest,
    ObjectStore,
    Run,
    ViewState,
    read_file,
    touch_hash,
)
from bucketdex.storage.entries import LogKind
from bucketdex.storage.paths import base_generation, delta_path, manifest_path, view_path


class RedoEverythingError(Exception):
    """The base is too old to tell what changed, or a file of ours may be gone: start over from the newest manifest."""


def touched_bytes(keys: set[str], settings: Settings) -> bytes | None:
    """The sorted 64-bit hashes of a commit's keys; None, which touches every key, above the bound."""
    if len(keys) > settings.touched_max:
        return None
    hashes = array("Q", sorted({touch_hash(key) for key in keys}))
    return b"".join(value.to_bytes(8, "little") for value in hashes)


def touched_since(manifest: Manifest, generation: int, keys: set[str]) -> set[str]:
    """Which of our keys a commit after `generation` touched. RedoEverythingError when the log doesn't reach back."""
    later = [entry for entry in manifest.log if entry.generation > generation]
    if len(later) != manifest.generation - generation:
        raise RedoEverythingError("the commit log doesn't reach back to the base")
    hashes: set[int] = set()
    for entry in later:
        if entry.touched is None:
            return set(keys)
        hashes.update(int.from_bytes(entry.touched[i : i + 8], "little") for i in range(0, len(entry.touched), 8))
    return {key for key in keys if touch_hash(key) in hashes}


def same_shape(a: Manifest, b: Manifest) -> bool:
    """Whether both have the same definition revision and the same set of views."""
    return (
        a.revision == b.revision
        and a.state == b.state
        and {view.id for view in a.views.values()} == {view.id for view in b.views.values()}
    )


def replacement(
    base: Manifest,
    kind: LogKind,
    runtime: Runtime,
    settings: Settings,
    *,
    touched: bytes | None = b"",
    objects: int = 0,
) -> Manifest:
    """A copy of a manifest, one generation on, with its own lists to change and a log entry of its own."""
    commit = runtime.token()
    generation = base.generation + 1
    entry = LogEntry(id=commit, generation=generation, kind=kind, touched=touched, objects=objects)
    return msgspec.structs.replace(
        base,
        generation=generation,
        commit=commit,
        log=_trimmed([*base.log, entry], settings),
        deltas=list(base.deltas),
        views={name: copy_view(state) for name, state in base.views.items()},
        garbage=list(base.garbage),
        updated_at=runtime.now(),
    )


def copy_view(state: ViewState) -> ViewState:
    """A view's state with lists of its own."""
    return msgspec.structs.replace(state, runs=list(state.runs), folds=list(state.folds))


class Contribution:
    """The files of one commit, to be put into whichever manifest it lands on."""

    def __init__(self, store: ObjectStore, runtime: Runtime, settings: Settings, built: Built) -> None:
        self._store, self._runtime, self._settings = store, runtime, settings
        self._runs = dict(built.runs)
        self._retracts = built.retracts
        self._body: EncodedFile | None = built.delta
        self._delta_file: FileEntry | None = None

    def place(self, base: Manifest, touched: bytes | None, objects: int) -> Manifest:
        """The manifest that the commit would make of `base`. Writes a delta too large to inline, and rewrites files
        below the floor.
        """
        new = replacement(base, "commit", self._runtime, self._settings, touched=touched, objects=objects)
        if self._runs and self._retracts:  # of rows that may be in any delta so far
            new.deltas = [
                delta if delta.retracted_at else msgspec.structs.replace(delta, retracted_at=new.updated_at)
                for delta in new.deltas
            ]
        if self._body is not None:
            new.deltas.append(self._delta(base, new))
        for name, runs in self._runs.items():
            self._runs[name] = [self._above_floor(run, base, name) for run in runs]
            new.views[name].runs.extend(self._listed(run, new, new.views[name]) for run in self._runs[name])
        return new

    def _listed(self, run: Run, new: Manifest, state: ViewState) -> Run:
        """The run as the new manifest lists it. A summary's doesn't show whether anything was retracted."""
        retracts = run.retracted or (state.kind == "summary" and self._retracts)
        return msgspec.structs.replace(
            run,
            added=new.generation,
            since=new.generation,
            through=new.generation,
            retracted_at=new.updated_at if retracts else 0.0,
        )

    def _delta(self, base: Manifest, new: Manifest) -> Delta:
        assert self._body is not None
        body, entry = self._body
        size = len(body)
        total = sum(len(delta.inline) for delta in base.deltas)
        if size <= self._settings.inline_bytes_max and total + size <= self._settings.inline_total_max:
            named = msgspec.structs.replace(entry, path=f"{manifest_path(base.table)}#{new.commit}")
            return self._listed_delta(new, named, body)
        if self._delta_file is None or base_generation(self._delta_file.path) < base.floor:
            path = delta_path(base.table, base.generation, self._runtime.token())
            self._store.put(path, body)
            self._delta_file = msgspec.structs.replace(entry, path=path)
        return self._listed_delta(new, self._delta_file)

    def _listed_delta(self, new: Manifest, file: FileEntry, inline: bytes = b"") -> Delta:
        return Delta(
            id=new.commit,
            added=new.generation,
            rows=file.rows,
            bytes=file.bytes,
            file=file,
            inline=inline,
            retracted_at=new.updated_at if self._retracts else 0.0,
        )

    def _above_floor(self, run: Run, base: Manifest, name: str) -> Run:
        """The run with every file that a sweep may delete written anew; a sweep commits its floor before it deletes."""
        if all(base_generation(file.path) >= base.floor for file in run.files):
            return run
        return rewrite_run(self._store, self._runtime, run, base, base.views[name].id)


def rewrite_run(
    store: ObjectStore,
    runtime: Runtime,
    run: Run,
    base: Manifest,
    view_id: str,
    *,
    listed: Container[str] = frozenset(),
) -> Run:
    """The run with its files below the floor copied to names based on `base`, but for those that `base` lists, which no
    sweep deletes. RedoEverythingError when one is gone already.
    """
    files = []
    for file in run.files:
        if base_generation(file.path) < base.floor and file.path not in listed:
            path = view_path(base.table, view_id, base.generation, runtime.token())
            try:
                body = store.get(GetRequest(file.path)).body
            except KeyMissingError as error:
                raise RedoEverythingError(f"{file.path} is gone") from error
            read_file(body, file)  # a damaged read must not become a damaged file
            store.put(path, body)
            file = msgspec.structs.replace(file, path=path)
        files.append(file)
    return msgspec.structs.replace(run, files=files)


def _trimmed(log: list[LogEntry], settings: Settings) -> list[LogEntry]:
    """The newest entries within both bounds, at least one."""
    kept: list[LogEntry] = []
    size = 0
    for entry in reversed(log):
        size += len(entry.touched or b"")
        if kept and (size > settings.log_bytes_max or len(kept) >= settings.log_entries_max):
            break
        kept.append(entry)
    return kept[::-1]
