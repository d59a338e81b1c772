"""Local files read as if they were uploaded. Changes with how a path stands for a key."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Mapping
from pathlib import Path

from bucketdex.definition.table import TableDefinition
from bucketdex.errors import DefinitionError
from bucketdex.source.object import ObjectInfo, Reject
from bucketdex.source.read import read_records

CHUNK_BYTES = 1024 * 1024


def check_file(
    definition: TableDefinition,
    path: str | Path,
    *,
    key: str | None = None,
    metadata: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> tuple[int, list[Reject]]:
    """The number of rows, and the rejects, that a local file would give under `key`. Streams the file; no requests.

    Without a key the path tells: see `key_of`. OSError when the file can't be read.
    """
    path = Path(path)
    facts = path.stat()
    info = ObjectInfo(
        key=key or key_of(definition, path),
        size=facts.st_size,
        last_modified=facts.st_mtime,
        content_type=mimetypes.guess_type(path.name)[0],
        metadata=dict(metadata or {}),
        tags=dict(tags or {}),
    )
    count, rejects = 0, []
    for batch in read_records(definition, info, _chunks(path)):
        count += len(batch.rows)
        rejects += batch.rejects
    return count, rejects


def key_of(definition: TableDefinition, path: Path) -> str:
    """The longest end of the path that is a key of the table; failing that the file right under the table's prefix.

    DefinitionError when the table has a key template that the path doesn't end in.
    """
    parts = path.resolve().parts[1:]
    for start in range(len(parts)):
        key = "/".join(parts[start:])
        if definition.match(key) is not None:
            return key
    if definition.source.prefix is not None:
        return definition.source.prefix + path.name
    raise DefinitionError(f"{path} does not end in a key of {definition.name} ({definition.source.key}); state its key")


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
