"""Writes sorted entries of a view as the files of one run."""

from __future__ import annotations

import msgspec

from bucketdex.engine.settings import Settings
from bucketdex.runtime import Runtime
from bucketdex.storage import EncodedFile, FileEntry, ObjectStore, Run, RunWriter
from bucketdex.storage.paths import view_path
from bucketdex.views import View
from bucketdex.views.merge import Entries


class RunSink:
    """Takes sorted, folded entries of one view and uploads files as they fill. Costs one PUT a file of about 16 MiB."""

    def __init__(
        self, store: ObjectStore, runtime: Runtime, settings: Settings, table: str, view: View, base: int
    ) -> None:
        self._store, self._runtime, self._table, self._view, self._base = store, runtime, table, view, base
        self._writer = RunWriter(view.id, block_bytes=settings.block_bytes)
        self._files: list[FileEntry] = []
        self._retracted = 0

    def add(self, entries: Entries) -> None:
        """More entries, all after those given before."""
        if entries.weights is not None:
            self._retracted += sum(1 for weight in entries.weights if weight < 0)
        self._upload(self._writer.add(entries.keys, entries.lines, entries.weights))

    def finish(self, added: int) -> Run | None:
        """The run, to be listed in the manifest of generation `added`; None when there was nothing to write."""
        self._upload(self._writer.finish())
        if not self._files:
            return None
        return Run(
            id=self._runtime.token(),
            files=self._files,
            rows=sum(f.rows for f in self._files),
            weight=sum(f.weight for f in self._files),
            bytes=sum(f.bytes for f in self._files),
            added=added,
            added_at=self._runtime.now(),
            retracted=self._retracted,
        )

    def _upload(self, files: list[EncodedFile]) -> None:
        for file in files:
            path = view_path(self._table, self._view.id, self._base, self._runtime.token())
            self._store.put(path, file.body)
            self._files.append(msgspec.structs.replace(file.entry, path=path))
