"""Parts of a manifest that has outgrown its bound, moved to immutable objects. Changes with what may move there.

A descriptor is named by its content and the generation that its writer had loaded, so a swap writes only the parts that
changed, and garbage collection treats one as any other immutable file: live while `Manifest.descriptors` names it.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from bucketdex.errors import CorruptManifestError
from bucketdex.storage.entries import FileEntry, Garbage, Manifest, encode_manifest
from bucketdex.storage.paths import descriptor_path
from bucketdex.storage.zstd import compress, decompress

MANIFEST_BYTES_MAX: Final = 256 * 1024
PART_BYTES_MIN: Final = 4096  # a smaller part saves less than its request costs
GARBAGE_GENERATIONS: Final = 64  # whose garbage is one part: a collection removes whole ones, the rest stay as they are


class Part(msgspec.Struct, omit_defaults=True):
    """What one descriptor holds: garbage, or the files of a run by (view name, run id)."""

    garbage: list[Garbage] = msgspec.field(default_factory=list)
    files: dict[str, dict[str, list[FileEntry]]] = msgspec.field(default_factory=dict)


class Split(NamedTuple):
    """A manifest as it is stored, its bytes, and the descriptors that have yet to be written, by path."""

    manifest: Manifest
    body: bytes
    missing: dict[str, bytes]
    parts: dict[str, Part]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Part)


def split_manifest(manifest: Manifest, *, bytes_max: int = MANIFEST_BYTES_MAX) -> Split:
    """The largest parts moved out until the rest is within `bytes_max` (or nothing is left to move).

    `manifest.descriptors` are those of the manifest that it replaces: a part that one of them holds isn't written anew.
    """
    whole = msgspec.structs.replace(manifest, descriptors=[])
    body = encode_manifest(whole)
    if len(body) <= bytes_max:
        return Split(whole, body, {}, {})
    candidates = [(_encoder.encode(part), part) for part in _parts(manifest)]
    candidates.sort(key=lambda candidate: (-len(candidate[0]), candidate[0]))
    written = {path.rpartition("-")[2]: path for path in manifest.descriptors}
    size = len(body)
    chosen: dict[str, Part] = {}
    missing: dict[str, bytes] = {}
    for content, part in candidates:
        if size <= bytes_max or len(content) < PART_BYTES_MIN:
            break
        base = max(0, manifest.generation - 1)
        path = descriptor_path(manifest.table, base, blake2b(content, digest_size=16).hexdigest())
        known = written.get(path.rpartition("-")[2])
        if known is None:
            missing[path] = compress(content)
        chosen[known or path] = part
        size -= len(content)
    stored = _without(whole, chosen)
    return Split(stored, encode_manifest(stored), missing, chosen)


def read_part(body: bytes, path: str) -> Part:
    """The content of a descriptor. CorruptManifestError names it."""
    try:
        return _decoder.decode(decompress(body))
    except (ValueError, msgspec.DecodeError) as error:
        raise CorruptManifestError(f"{path} is damaged: {error}") from error


def join_manifest(stored: Manifest, parts: Iterable[Part]) -> Manifest:
    """The whole manifest: what was split, put back. Garbage is in order of the generation that removed it."""
    garbage = list(stored.garbage)
    views = dict(stored.views)
    for part in parts:
        garbage += part.garbage
        for name, lists in part.files.items():
            runs = [
                msgspec.structs.replace(run, files=lists[run.id]) if run.id in lists else run
                for run in views[name].runs
            ]
            views[name] = msgspec.structs.replace(views[name], runs=runs)
    garbage.sort(key=lambda item: item.removed)
    return msgspec.structs.replace(stored, garbage=garbage, views=views)


def _parts(manifest: Manifest) -> list[Part]:
    groups: dict[int, list[Garbage]] = {}
    for item in manifest.garbage:
        groups.setdefault(item.removed // GARBAGE_GENERATIONS, []).append(item)
    parts = [Part(garbage=group) for group in groups.values()]
    for name, view in manifest.views.items():
        parts += [Part(files={name: {run.id: run.files}}) for run in view.runs]
    return parts


def _without(manifest: Manifest, chosen: dict[str, Part]) -> Manifest:
    moved_groups = {part.garbage[0].removed // GARBAGE_GENERATIONS for part in chosen.values() if part.garbage}
    moved_runs = {(name, run) for part in chosen.values() for name, runs in part.files.items() for run in runs}
    garbage = [item for item in manifest.garbage if item.removed // GARBAGE_GENERATIONS not in moved_groups]
    views = {}
    for name, view in manifest.views.items():
        runs = [msgspec.structs.replace(run, files=[]) if (name, run.id) in moved_runs else run for run in view.runs]
        views[name] = msgspec.structs.replace(view, runs=runs)
    return msgspec.structs.replace(manifest, garbage=garbage, views=views, descriptors=sorted(chosen))
