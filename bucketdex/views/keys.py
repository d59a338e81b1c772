"""Sort keys of a view's lines: compiled once a view, from rows or from the lines of a block.

A sort key is text whose code-point order is the typed order: one component a sort field, each closed by U+0000, then
the object's key and the record's place. Components come from `definition.ordering`; a null is the empty component, so
nulls sort first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from bucketdex.definition import FieldType, TableDefinition, row_codec
from bucketdex.definition.ordering import component_function, escape
from bucketdex.views.merge import Entries
from bucketdex.views.spec import View, group_type, multi_field

END = "\x00"  # closes a component
PAST = "\x01"  # a component closed by this instead sorts after all that start with it
PYTHON_TYPES: dict[FieldType, Any] = {
    FieldType.STRING: str | None,
    FieldType.INT: int | None,
    FieldType.FLOAT: float | None,
    FieldType.DECIMAL: str | None,
    FieldType.BOOL: bool | None,
    FieldType.TIMESTAMP: str | None,
    FieldType.DATE: str | None,
}
_EXPRESSIONS = {
    FieldType.STRING: '("" if (v := {0}) is None else "=" + (v if v.isprintable() else escape(v)))',
    FieldType.TIMESTAMP: '({0} or "")',
    FieldType.DATE: '({0} or "")',
    FieldType.BOOL: '("" if (v := {0}) is None else "1" if v else "0")',
    FieldType.INT: '("" if (v := {0}) is None else "%016x" % (v + 9223372036854775808))',
}
_encode = msgspec.json.Encoder().encode


class _EscapedKeys(dict[str, str]):
    """Object keys as sort-key text; most rows of a batch share a few."""

    def __missing__(self, key: str) -> str:
        text = self[key] = escape(key) + END
        return text


def place_text(key: str, at: tuple[int, int] | None) -> str:
    """The tail of every row's sort key: object key, offset and length."""
    return f"{escape(key)}{END}{END if at is None else f'{at[0]:012x}{at[1]:08x}' + END}"


def suffixes(rows: Sequence[Any]) -> list[str]:
    """The tails of the rows' sort keys; for `records` and `rejects` the whole key."""
    escaped = _EscapedKeys()
    return [
        escaped[row.key] + "\x00" if (at := row.at) is None else "%s%012x%08x\x00" % (escaped[row.key], *at)  # noqa: UP031 (quicker than an f-string, a million times)
        for row in rows
    ]


def key_range(key: str) -> tuple[str, str]:
    """The range that holds all entries of one object in `objects`, `records` and `rejects`."""
    text = escape(key)
    return text + END, text + PAST


class ViewKeys:
    """Makes the sort keys of one view."""

    def __init__(self, view: View, definition: TableDefinition) -> None:
        self.view = view
        self.components = _components(view, definition)
        self._decode_lines = _key_decoder(view, self.components)
        names = list(dict.fromkeys(name for name, _ in self.components))
        self._of_decoded = _compile(self.components, {name: f"r.c{i}" for i, name in enumerate(names)})
        self._multi: str | None = None
        if view.index is not None:
            codec = row_codec(definition)
            attributes = {name: f"r.{codec.attribute(name)}" for name in view.index.fields}
            multi = multi_field(definition, view.index)
            if multi is not None:
                self._multi = codec.attribute(multi)
                attributes["_v"] = "value"
            self._of_rows = _compile(self.components, attributes, multi=multi is not None)

    def of_block(self, block: bytes) -> list[str]:
        """The sort keys of the lines of a block."""
        rows = self._decode_lines(block)
        if self.view.kind == "summary":
            return self._of_decoded(rows, [""] * len(rows))
        if self.view.kind == "objects":
            escaped = _EscapedKeys()
            return [escaped[row.key] for row in rows]
        return self._of_decoded(rows, suffixes(rows))

    def index_entries(
        self, rows: Sequence[Any], lines: list[bytes], tails: list[str], weights: list[int] | None
    ) -> Entries:
        """The entries, unsorted, that rows have in this index: one a row, or one a distinct value of the multi-valued
        field.
        """
        if self._multi is None:
            return Entries(self._of_rows(rows, tails), lines, weights)
        return self._multi_entries(rows, lines, tails, weights)

    def _multi_entries(
        self, rows: Sequence[Any], lines: list[bytes], tails: list[str], weights: list[int] | None
    ) -> Entries:
        exploded_rows, values, out_lines, out_tails = [], [], [], []
        out_weights: list[int] | None = None if weights is None else []
        for i, row in enumerate(rows):
            for value in getattr(row, self._multi or "") or (None,):
                exploded_rows.append(row)
                values.append(value)
                out_tails.append(tails[i])
                out_lines.append(lines[i][:-1] + b',"_v":' + _encode(value) + b"}")
                if out_weights is not None and weights is not None:
                    out_weights.append(weights[i])
        return Entries(self._of_rows(exploded_rows, out_tails, values), out_lines, out_weights)


@lru_cache(maxsize=1024)
def view_keys(view: View, definition: TableDefinition) -> ViewKeys:
    """The key maker of a view, compiled once."""
    return ViewKeys(view, definition)


def _components(view: View, definition: TableDefinition) -> tuple[tuple[str, FieldType], ...]:
    """The (JSON name, type) of each component before the tail."""
    if view.index is not None:
        multi = multi_field(definition, view.index)
        return tuple(("_v" if name == multi else name, definition.field(name).type) for name in view.index.fields)
    if view.summary is not None:
        return tuple((term.name, group_type(definition, term)) for term in view.summary.group_by)
    return ()


def _key_decoder(view: View, components: tuple[tuple[str, FieldType], ...]) -> Callable[[bytes], list[Any]]:
    """A decoder that looks only at what the sort key needs."""
    types = dict(components)
    fields: list[Any] = [(f"c{i}", PYTHON_TYPES[types[name]]) for i, name in enumerate(types)]
    rename = {f"c{i}": name for i, name in enumerate(types)}
    if view.kind != "summary":
        fields += [("key", str), ("at", tuple[int, int] | None, None)]
        rename |= {"key": "_key", "at": "_at"}
    struct = msgspec.defstruct("KeyRow", fields, rename=rename, gc=False)
    return msgspec.json.Decoder(struct).decode_lines


def _compile(
    components: tuple[tuple[str, FieldType], ...], attributes: dict[str, str], *, multi: bool = False
) -> Callable[..., list[str]]:
    """`f(rows, tails[, values])`: the sort keys as one list comprehension, which is what makes a million of them
    cheap.
    """
    names: dict[str, Any] = {"escape": escape}
    parts = []
    for i, (name, kind) in enumerate(components):
        attribute = attributes[name]
        if kind in _EXPRESSIONS:
            parts.append(_EXPRESSIONS[kind].format(attribute))
        else:
            names[f"component{i}"] = component_function(kind)
            parts.append(f"component{i}({attribute})")
    loop = "for r, tail, value in zip(rows, tails, values)" if multi else "for r, tail in zip(rows, tails)"
    # The compiler makes one concatenation of a literal's %s.
    form = "%s\\x00" * len(parts) + "%s"
    key = f'"{form}" % ({"".join(part + ", " for part in parts)}tail,)'
    source = f"def keys(rows, tails, values=()):\n    return [{key} {loop}]\n"
    exec(source, names)  # noqa: S102 (built from validated types and attribute names alone)
    compiled: Callable[..., list[str]] = names["keys"]
    return compiled
