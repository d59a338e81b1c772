"""Pure functions that a simulated world calls a thousand times with the same bytes, each computed once.

Nothing but the time that it takes is changed: a damaged read has other bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from bucketdex.definition import TableDefinition
from bucketdex.storage import descriptors, file_reader, file_writer, manifest, zstd
from bucketdex.views.loader import Loader, Need

_installed = False
_known: list[dict[tuple[Any, ...], Any]] = []


def forget() -> None:
    """Forgets the bytes of the world before."""
    for known in _known:
        known.clear()


def install() -> None:
    """Makes this process remember, once."""
    global _installed
    if _installed:
        return
    _installed = True
    file_reader.decompress = _remembered(file_reader.decompress)
    manifest.decode_manifest = _remembered(manifest.decode_manifest)
    manifest.read_part = descriptors.read_part = _remembered(descriptors.read_part)
    zstd.FrameCompressor = file_writer.FrameCompressor = _remembered(zstd.FrameCompressor)  # type: ignore[assignment, misc]
    _remember_decoded()
    parse = TableDefinition.from_dict
    known: dict[tuple[str, bytes], TableDefinition] = {}

    def from_dict(cls: type, name: str, mapping: Any, *, origin: str = "definition") -> TableDefinition:
        place = (name, msgspec.json.encode(mapping))
        if place not in known:
            known[place] = parse(name, mapping, origin=origin)
        return known[place]

    TableDefinition.from_dict = classmethod(from_dict)  # type: ignore[assignment]


def _remember_decoded() -> None:
    """What a file's bytes mean in a view; block caches share the same values between readers."""
    decode = Loader._decode
    known: dict[tuple[Any, ...], tuple[Any, int]] = {}
    _known.append(known)

    def decoding(loader: Loader, need: Need, body: bytes) -> tuple[Any, int]:
        kind = need.place[0]
        if kind == "block":  # needs a footer that the loader holds
            return decode(loader, need, body)
        place = (kind, need.view.id if need.view else id(loader._definition), need.entry, body)
        if place not in known:
            known[place] = decode(loader, need, body)
        return known[place]

    Loader._decode = decoding  # type: ignore[method-assign]


def _remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    known: dict[tuple[Any, ...], Any] = {}
    _known.append(known)

    def remembering(*arguments: Any) -> Any:
        if arguments in known:
            return known[arguments]
        value = known[arguments] = function(*arguments)
        return value

    return remembering
