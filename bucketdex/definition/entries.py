"""One entry of a definition and the errors about it. Changes when definition errors are to say more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from bucketdex.errors import DefinitionError

LISTED_MAX = 20


def suggestion(text: str, known: Iterable[str]) -> str:
    """'did you mean "x"?' when something known is close, else nothing."""
    from difflib import get_close_matches  # late: only errors need it

    folded: dict[str, str] = {}
    for name in known:
        folded.setdefault(name.lower(), name)
    close = get_close_matches(text.lower(), folded, 1, 0.6)
    return f'did you mean "{folded[close[0]]}"?' if close else ""


class Entry:
    """A value in a definition and where it stands.

    Its checks return the value typed, or raise a DefinitionError with file, entry and remedy.
    """

    __slots__ = ("name", "origin", "value")

    def __init__(self, origin: str, name: str, value: Any) -> None:
        self.origin, self.name, self.value = origin, name, value

    def error(self, problem: str, remedy: str) -> DefinitionError:
        """The error to raise about this entry."""
        where = f"{self.origin}: {self.name}" if self.name else self.origin
        return DefinitionError(f"{where}: {problem}; {remedy}")

    def replace(self, value: Any) -> Entry:
        """The same place with another value."""
        return Entry(self.origin, self.name, value)

    def child(self, key: str, default: Any = None, *, required: bool = False) -> Entry:
        """The entry under a key of this one's mapping."""
        if required and key not in self.value:
            raise self.error(f'"{key}" is missing', "add it")
        return Entry(self.origin, f"{self.name}.{key}" if self.name else key, self.value.get(key, default))

    def mapping(self, expected: str = "a table") -> Mapping[str, Any]:
        """The value, which must be a mapping with text keys."""
        if not isinstance(self.value, Mapping) or not all(isinstance(key, str) for key in self.value):
            raise self.error(f"{expected} is expected here", f"it is {_kind(self.value)}")
        return self.value

    def known_keys(self, known: Collection[str]) -> None:
        """Nothing but these keys is allowed."""
        for key in self.mapping():
            if key not in known:
                raise self.child(key).error("unknown entry", _remedy(key, known))

    def one_of(self, known: Collection[str], what: str, *, listed: bool = True) -> str:
        """The value, which must be one of these texts."""
        if isinstance(self.value, str) and self.value in known:
            return str(self.value)
        shown = f'"{self.value}"' if isinstance(self.value, str) else _kind(self.value)
        remedy = _remedy(self.value, known) if listed else suggestion(str(self.value), known)
        raise self.error(f"unknown {what} {shown}", remedy or "look up its name")

    def text(self) -> str:
        """The value, which must be text."""
        if not isinstance(self.value, str):
            raise self.error("text is expected here", f"it is {_kind(self.value)}: quote it")
        return self.value

    def text_or_none(self) -> str | None:
        """The value, which must be text if given."""
        return None if self.value is None else self.text()

    def boolean(self) -> bool:
        """The value, which must be true or false."""
        if not isinstance(self.value, bool):
            raise self.error("true or false is expected here", f"it is {_kind(self.value)}")
        return self.value

    def texts(self) -> tuple[str, ...]:
        """The value, which must be a list of texts."""
        if not isinstance(self.value, (list, tuple)) or not all(isinstance(item, str) for item in self.value):
            raise self.error("a list of texts is expected here", 'write it like ["a", "b"]')
        return tuple(self.value)

    def bound(self, maximum: int) -> int:
        """The value, which must be a whole number from 1 to `maximum`."""
        if type(self.value) is not int or not 1 <= self.value <= maximum:
            raise self.error(f"a whole number from 1 to {maximum} is expected here", "change it")
        return self.value


def _remedy(text: Any, known: Collection[str]) -> str:
    close = suggestion(str(text), known)
    names = ", ".join(list(known)[:LISTED_MAX])
    return f"{close} Known: {names}".strip()


def _kind(value: Any) -> str:
    names = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a table"}
    return "nothing" if value is None else names.get(type(value), f"of type {type(value).__name__}")
