"""Summaries as a fold: the partial state of a group, how rows are added to it, how partials merge, and what they come
to.

A partial keeps, per measured field, the count of non-null values, exact sums, and for min and max both the extreme of
all values added and the extreme of all values retracted. A partial may be negative. While no retracted value reaches
the extreme added one, that one is the answer; otherwise the hidden summary on (group, value) is asked. All parts add
up in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from bucketdex.definition import FieldType, TableDefinition, row_codec
from bucketdex.definition.ordering import component_function
from bucketdex.views.exact import ARITHMETIC, EXACT, Arithmetic, comparable
from bucketdex.views.merge import Entries
from bucketdex.views.spec import View, group_type

State = list[Any]  # [rows, then the slots of each measured field]
Groups = dict[tuple[Any, ...], State]

SLOTS = {  # what a measure needs of its field; count_distinct needs only the hidden summary
    "count": ("n",),
    "sum": ("n", "sum"),
    "avg": ("n", "sum"),
    "var": ("n", "sum", "sq"),
    "stddev": ("n", "sum", "sq"),
    "min": ("n", "min", "rmin"),
    "max": ("n", "max", "rmax"),
    "count_distinct": (),
}
CUT = {"year": 4, "month": 7, "day": 10, "hour": 13}  # characters of a timestamp's text that name its UTC unit
ORDER = ("n", "sum", "sq", "min", "rmin", "max", "rmax")
RETRACTED = ("rmin", "rmax")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Slot(msgspec.Struct, frozen=True):
    """One number of a state: its place, field, and what it holds."""

    place: int
    name: str
    field: str
    kind: FieldType

    @property
    def column(self) -> str:
        """Its member in a summary line."""
        return f"_{self.name}.{self.field}"


class SummaryFold:
    """The fold of one summary view."""

    def __init__(self, view: View, definition: TableDefinition) -> None:
        if view.summary is None:
            raise ValueError(f"{view.name} is no summary")
        self.summary = view.summary
        self.slots = _slots(view, definition)
        self.place = {(slot.name, slot.field): slot.place for slot in self.slots}
        self.terms = tuple(term.name for term in self.summary.group_by)
        self.term_types = tuple(group_type(definition, term) for term in self.summary.group_by)
        self._component_functions = tuple(component_function(kind) for kind in self.term_types)
        self.zero: State = [0, *(_zero(slot) for slot in self.slots)]
        self._comparable = {slot.place: comparable(slot.kind) for slot in self.slots}
        self._accumulate = _compile(self, definition)

    def accumulate(self, groups: Groups, rows: Sequence[Any], weight: int) -> None:
        """Adds rows, each `weight` times, to the states of their groups."""
        self._accumulate(groups, rows, weight)

    def merge(self, state: State, other: State) -> None:
        """Adds another partial of the same group to a state."""
        state[0] += other[0]
        for slot in self.slots:
            i = slot.place
            theirs = other[i]
            if slot.name == "n":
                state[i] += theirs
            elif slot.name in ("sum", "sq"):
                state[i] = EXACT.add(state[i], theirs) if slot.kind is FieldType.DECIMAL else state[i] + theirs
            elif theirs is not None:
                mine, typed = state[i], self._comparable[i]
                if mine is None or ((typed(theirs) < typed(mine)) == slot.name.endswith("min") and theirs != mine):
                    state[i] = theirs

    def is_neutral(self, state: State) -> bool:
        """Whether adding this partial changes nothing, so that its line may be left out."""
        return not state[0] and all(
            not state[slot.place] if slot.name in ("n", "sum", "sq") else state[slot.place] is None
            for slot in self.slots
        )

    def key(self, group: tuple[Any, ...]) -> str:
        """The sort key of a group's line."""
        return "".join(
            [function(value) + "\x00" for function, value in zip(self._component_functions, group, strict=True)]
        )

    def entries(self, groups: Groups) -> Entries:
        """The lines of all groups that matter, in sort-key order."""
        lined = sorted(
            (self.key(g), self.encode(g, state)) for g, state in groups.items() if not self.is_neutral(state)
        )
        return Entries([key for key, _ in lined], [line for _, line in lined], None)

    def encode(self, group: tuple[Any, ...], state: State) -> bytes:
        """The line of a group."""
        plain: dict[str, Any] = dict(zip(self.terms, group, strict=True))
        plain["_n"] = state[0]
        for slot in self.slots:
            value = state[slot.place]
            if slot.name in ("sum", "sq"):
                value = ARITHMETIC[slot.kind].encode(value, squares=slot.name == "sq")
            plain[slot.column] = value
        return _encode(plain)

    def decode(self, line: bytes) -> tuple[tuple[Any, ...], State]:
        """The group and the partial of a line."""
        plain = _decode(line)
        state: State = [plain["_n"]]
        for slot in self.slots:
            value = plain[slot.column]
            if slot.name in ("sum", "sq"):
                value = ARITHMETIC[slot.kind].decode(value, squares=slot.name == "sq")
            state.append(value)
        return tuple(plain[name] for name in self.terms), state

    def fold_lines(self, entries: Entries) -> Entries:
        """Merges the partials of equal sort keys of sorted entries."""
        keys, lines, _ = entries
        out_keys: list[str] = []
        out_lines: list[bytes] = []
        start, total = 0, len(keys)
        while start < total:
            end = start + 1
            while end < total and keys[end] == keys[start]:
                end += 1
            line: bytes | None = lines[start]
            if end > start + 1:
                line = self._merge_lines(lines[start:end])
            if line is not None:
                out_keys.append(keys[start])
                out_lines.append(line)
            start = end
        return Entries(out_keys, out_lines, None)

    def _merge_lines(self, lines: list[bytes]) -> bytes | None:
        group, state = self.decode(lines[0])
        for line in lines[1:]:
            self.merge(state, self.decode(line)[1])
        return None if self.is_neutral(state) else self.encode(group, state)

    def contested(self, state: State) -> list[Slot]:
        """The min and max slots that a retracted value reaches: the hidden summary has to settle them."""
        out = []
        for slot in self.slots:
            if slot.name in ("min", "max"):
                extreme, retracted = state[slot.place], state[slot.place + 1]
                if retracted is None or extreme is None:
                    continue
                typed = self._comparable[slot.place]
                a, r = typed(extreme), typed(retracted)
                if (r <= a) if slot.name == "min" else (r >= a):
                    out.append(slot)
        return out

    def settle(self, state: State, slot: Slot, value: Any) -> None:
        """Puts in the extreme that the hidden summary gave; nothing is retracted of it any more."""
        state[slot.place] = value
        state[slot.place + 1] = None

    def has_retracted(self, state: State) -> bool:
        """Whether the state knows extremes of retracted values."""
        return any(state[slot.place] is not None for slot in self.slots if slot.name in RETRACTED)

    def forget_retracted(self, state: State) -> None:
        """Takes them out: right for a settled state of a group's whole history."""
        for slot in self.slots:
            if slot.name in RETRACTED:
                state[slot.place] = None


@lru_cache(maxsize=512)
def summary_fold(view: View, definition: TableDefinition) -> SummaryFold:
    """The fold of a summary view, compiled once."""
    return SummaryFold(view, definition)


def _zero(slot: Slot) -> Any:
    if slot.name == "n":
        return 0
    return ARITHMETIC[slot.kind].zero if slot.name in ("sum", "sq") else None


def _slots(view: View, definition: TableDefinition) -> tuple[Slot, ...]:
    assert view.summary is not None
    needed: dict[str, set[str]] = {}
    for measure in view.summary.measures:
        if measure.field is not None:
            needed.setdefault(measure.field, set()).update(SLOTS[measure.function])
    slots: list[Slot] = []
    for field in sorted(needed):
        for name in ORDER:
            if name in needed[field]:
                slots.append(Slot(len(slots) + 1, name, field, definition.field(field).type))
    return tuple(slots)


def _compile(fold: SummaryFold, definition: TableDefinition) -> Callable[[Groups, Sequence[Any], int], None]:
    """`f(groups, rows, weight)` as straight-line code over the attributes of a row."""
    codec = row_codec(definition)
    names: dict[str, Any] = {"zero": fold.zero, "fma": EXACT.fma, "EXACT": EXACT}
    groups = []
    for i, term in enumerate(fold.summary.group_by):
        attribute = f"r.{codec.attribute(term.field)}"
        if term.unit is None:
            groups.append(attribute)
        elif term.timezone is None and term.unit in CUT:
            groups.append(f"(None if (v := {attribute}) is None else v[:{CUT[term.unit]}])")
        else:
            names[f"unit{i}"] = lru_cache(maxsize=65536)(term.function())
            groups.append(f"unit{i}({attribute})")
    body = [
        f"k = ({''.join(g + ', ' for g in groups)})",
        "s = get(k)",
        "if s is None: s = groups[k] = zero.copy()",
        "s[0] += w",
    ]
    for field in dict.fromkeys(slot.field for slot in fold.slots):
        body += _field_code(fold, field, codec.attribute(field), names)
    lines = [
        "def accumulate(groups, rows, w):",
        " get = groups.get",
        " wd = EXACT.create_decimal(w)",
        " up = w > 0",
        " for r in rows:",
        *(f"  {line}" for line in body),
    ]
    exec("\n".join(lines), names)  # noqa: S102 (built from validated types and attribute names alone)
    compiled: Callable[[Groups, Sequence[Any], int], None] = names["accumulate"]
    return compiled


def _field_code(fold: SummaryFold, field: str, attribute: str, names: dict[str, Any]) -> list[str]:
    place = {slot.name: slot.place for slot in fold.slots if slot.field == field}
    kind = next(slot.kind for slot in fold.slots if slot.field == field)
    code = [f"v = r.{attribute}", "if v is not None:", f" s[{place['n']}] += w"]
    if "sum" in place:
        code += _sum_code(place, kind, names)
    for name, sign in (("min", "<"), ("max", ">")):
        if name in place:
            i = place[name]
            a, b = "v", "e"
            if kind is FieldType.DECIMAL:
                names["EXACT_number"] = ARITHMETIC[kind].number
                a, b = "EXACT_number(v)", "EXACT_number(e)"
            code += [
                f" i = {i} if up else {i + 1}",
                " e = s[i]",
                f" if e is None or {a} {sign} {b}: s[i] = v",
            ]
    return code


def _sum_code(place: dict[str, int], kind: FieldType, names: dict[str, Any]) -> list[str]:
    arithmetic: Arithmetic = ARITHMETIC[kind]
    names[f"number_{kind}"] = arithmetic.number
    code = [f" d = number_{kind}(v)"]
    i = place["sum"]
    code.append(f" s[{i}] = fma(d, wd, s[{i}])" if kind is FieldType.DECIMAL else f" s[{i}] += d * w")
    if "sq" in place:
        q = place["sq"]
        if kind is FieldType.DECIMAL:
            code.append(f" s[{q}] = fma(EXACT.multiply(d, d), wd, s[{q}])")
        else:
            code.append(f" s[{q}] += d * d * w")
    return code
