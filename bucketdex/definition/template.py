"""Which keys belong to a table: prefixes, key templates, their overlaps. Changes with the template language.

A template is literal text and placeholders: `orders/{region}/{id}.json`. A placeholder takes one or more characters but
no "/", as few as the rest allows, from left to right. Matching takes time linear in the key, whatever the key.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

from bucketdex.definition.kinds import ValueTypeError

_PLACEHOLDER = re.compile(r"\{([^{}/]+)\}")
_ANY, _SEGMENT = None, ""  # tokens beside literal characters: anything at all, characters but "/"


class KeyTemplate:
    """A key template.

    `match` gives the placeholders' texts; `literal_prefix` is what every matching key starts with.
    """

    def __init__(self, text: str) -> None:
        parts = _PLACEHOLDER.split(text)
        literals, names = parts[::2], parts[1::2]
        if not text:
            raise ValueTypeError("is empty")
        if any("{" in literal or "}" in literal for literal in literals):
            raise ValueTypeError("has a brace that belongs to no {placeholder}")
        if len(set(names)) != len(names):
            raise ValueTypeError("names a placeholder twice")
        if any(not literal for literal in literals[1:-1]):
            raise ValueTypeError("has two placeholders with nothing between them")
        self.text = text
        self.names = tuple(names)
        self.literal_prefix = literals[0]
        self._literals = tuple(literals)
        # Within a segment the leftmost occurrence of a literal leaves the most room for the rest, so no other need be
        # tried: the groups are atomic, and a hostile key can't make the match backtrack.
        expression = re.escape(literals[0]) if names else re.escape(text) + r"\Z"
        for i, literal in enumerate(literals[1:], 1):
            end = r"\Z" if i == len(names) else ""
            expression += f"(?>([^/]+?){re.escape(literal)}{end})"
        self._match = re.compile(expression).match

    def match(self, key: str) -> dict[str, str] | None:
        """The placeholders' texts, or None when the key is of another form."""
        found = self._match(key)
        return None if found is None else dict(zip(self.names, found.groups(), strict=True))

    def tokens(self) -> list[str | None]:
        """The template as single steps of an automaton."""
        out: list[str | None] = []
        for i, literal in enumerate(self._literals):
            if i:
                out.append(_SEGMENT)
            out += literal
        return out


def common_key(one: KeyTemplate | str, other: KeyTemplate | str) -> str | None:
    """A shortest key that both match (a plain str is a prefix), or None when there can't be one.

    Exact: it walks both at once.
    """
    left, right = _tokens(one), _tokens(other)
    start = (0, 0, False, False)  # places, and whether the placeholder before each place may go on
    seen, waiting = {start}, deque([(start, "")])
    while waiting:
        (i, j, more_left, more_right), key = waiting.popleft()
        if _is_end(left, i) and _is_end(right, j):
            return key
        for to_i, more_i, takes_i in _steps(left, i, more_left):
            for to_j, more_j, takes_j in _steps(right, j, more_right):
                character = _meet(takes_i, takes_j)
                state = (to_i, to_j, more_i, more_j)
                if character and state not in seen:
                    seen.add(state)
                    waiting.append((state, key + character))
    return None


def minimal_prefixes(prefixes: Iterable[str]) -> tuple[str, ...]:
    """The prefixes without those that lie within another: they cover the same keys, and none overlaps another."""
    kept: list[str] = []
    for prefix in sorted(set(prefixes)):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return tuple(kept)


def _tokens(pattern: KeyTemplate | str) -> list[str | None]:
    return [*pattern, _ANY] if isinstance(pattern, str) else pattern.tokens()


def _is_end(tokens: list[str | None], place: int) -> bool:
    return place == len(tokens) or tokens[place] is _ANY


def _steps(tokens: list[str | None], place: int, more: bool) -> list[tuple[int, bool, str | None]]:
    """(next place, whether a placeholder may go on there, what is taken) for each way to take one character."""
    out: list[tuple[int, bool, str | None]] = []
    if more:
        out.append((place, True, _SEGMENT))
    if place < len(tokens):
        token = tokens[place]
        if token is _ANY:
            out.append((place, False, _ANY))
        else:
            out.append((place + 1, token == _SEGMENT, token))
    return out


def _meet(one: str | None, other: str | None) -> str:
    """A character that both tokens take, or "" when there is none."""
    if one and other:
        return one if one == other else ""
    literal = one or other
    if not literal:
        return "x"
    wild = other if one else one
    return "" if wild == _SEGMENT and literal == "/" else literal
