"""What a manifest says: runs, deltas, views, the commit log, garbage. Changes with the manifest's format."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final, Literal, TypeAlias

import msgspec

from bucketdex.errors import CorruptManifestError, UpgradeRequiredError

MANIFEST_FORMAT: Final = 1
MANIFEST_READER: Final = 1  # the least version of this format that a reader must know
ANY_GENERATION: Final = 2**63 - 1

State = Literal["live", "dropped"]
ViewStatus = Literal["ready", "building"]
Body: TypeAlias = bytes  # (inside Delta, `bytes` is a size)
LogKind = Literal["commit", "compaction", "definition", "collection"]


class FileEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file of a run or delta: enough to decide whether to read it, and to read any part by exact ranges.

    `first` <= every sort key in the file, `last` is the largest. `weight` is the net weight of its rows, `bytes` the
    size of the file, `footer` that of the skippable frame at its end, `filter` the number of filter partitions
    before that frame and the bytes of bits in each ((0, 0): no filter).
    """

    path: str
    first: str
    last: str
    rows: int
    weight: int
    bytes: int
    footer: int
    filter: tuple[int, int] = (0, 0)


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """One sorted piece of a view. Keys below `start` are merged elsewhere; `retracted` rows have negative weight.

    `since`, `through`: it holds rows of no commit before the one, nor after the other; the widest span, the default,
    is never wrong. `retracted_at`: since when it may hold retracted values, at the earliest; 0: it holds none.
    """

    id: str
    files: list[FileEntry]
    rows: int
    weight: int
    bytes: int
    added: int
    added_at: float = 0.0
    start: str | None = None
    retracted: int = 0
    since: int = 0
    through: int = ANY_GENERATION
    retracted_at: float = 0.0


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rows of one commit, not yet folded into every view: a file, or the same bytes inlined (base64 in JSON).

    `part`: (offset, length) of the file's bytes within an object that holds those of several deltas. `retracted_at`:
    when it was committed, if it retracts anything, or when runs were that may retract its rows; else 0.
    """

    id: str
    added: int
    rows: int
    bytes: int
    file: FileEntry | None = None
    inline: Body = b""
    part: tuple[int, int] | None = None
    retracted_at: float = 0.0


class ViewState(msgspec.Struct, omit_defaults=True):
    """One view's runs, which hold every commit up to generation `folded`; `folds`: history of (generation, folded)."""

    name: str
    kind: str
    hash: str
    folded: int
    runs: list[Run]
    state: ViewStatus = "ready"
    folds: list[tuple[int, int]] = msgspec.field(default_factory=list)

    @property
    def id(self) -> str:
        """The name that the view's files are stored under."""
        return f"{self.name}-{self.hash}"


class LogEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One landed swap of the manifest. `touched`: sorted 8-byte little-endian key hashes; None touches every key."""

    id: str
    generation: int
    kind: LogKind
    touched: bytes | None
    objects: int = 0


class Garbage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run or delta that generation `removed` no longer needs; kept for the snapshots within the grace period."""

    removed: int
    removed_at: float
    view: str | None = None
    run: Run | None = None
    delta: Delta | None = None


class Manifest(msgspec.Struct, omit_defaults=True):
    """All that a table's index is at one generation. Treat a loaded one as read-only: it is shared between threads.

    `floor`: files below this base generation may be deleted when nothing refers to them; `floor_at`: when it was raised
    last. `descriptors`: paths of the live objects that hold parts of this manifest in the bucket; `ManifestStore` fills
    and resolves them. `successor`: the name of a table that is built beside this one to take its place; each commit
    here is made there first. `promoted`: the name of the one that took it last.
    """

    format: int
    reader: int
    table: str
    generation: int
    commit: str
    state: State = "live"
    managed_by: str | None = None
    successor: str | None = None
    promoted: str | None = None
    definition: dict[str, Any] = msgspec.field(default_factory=dict)
    revision: int = 0
    floor: int = 0
    floor_at: float = 0.0
    log: list[LogEntry] = msgspec.field(default_factory=list)
    deltas: list[Delta] = msgspec.field(default_factory=list)
    views: dict[str, ViewState] = msgspec.field(default_factory=dict)
    garbage: list[Garbage] = msgspec.field(default_factory=list)
    updated_at: float = 0.0
    descriptors: list[str] = msgspec.field(default_factory=list)


class _Versions(msgspec.Struct):
    format: int
    reader: int


_encoder = msgspec.json.Encoder()
_versions = msgspec.json.Decoder(_Versions)
_manifests = msgspec.json.Decoder(Manifest)


def encode_manifest(manifest: Manifest) -> bytes:
    """The JSON of a manifest."""
    return _encoder.encode(manifest)


def decode_manifest(body: bytes, path: str = "manifest.json") -> Manifest:
    """The manifest of its JSON, descriptors not resolved. UpgradeRequiredError before anything else is looked at;
    CorruptManifestError, naming `path`, for anything that isn't a manifest."""
    try:
        versions = _versions.decode(body)
        if versions.reader > MANIFEST_FORMAT:
            raise UpgradeRequiredError(
                f"{path} needs a reader of manifest format {versions.reader}; this one knows {MANIFEST_FORMAT}: "
                "upgrade bucketdex"
            )
        return _manifests.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptManifestError(f"{path} is not a manifest: {error}") from error


def touch_hash(key: str) -> int:
    """64 bits of BLAKE2b of an object key: what a commit log keeps of the keys it touched. Alike on every machine."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little")
