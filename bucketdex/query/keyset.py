"""Sets of values as disjoint ranges of sort-key text: what conditions on one column come to, and their algebra.

The text of a value is its component closed by U+0000. U+0001 in that place is past the value and everything that a
longer component could add, because no component starts with or goes on with a smaller character. So a half-open range
of text says exactly which values it means.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

CLOSE = "\x00"
PAST = "\x01"


class Range(NamedTuple):
    """Texts from `low` up to but without `high`; None: no upper end."""

    low: str
    high: str | None

    @property
    def is_point(self) -> bool:
        """Whether it holds exactly one value, null included."""
        return self.high is not None and self.low[-1:] == CLOSE and self.high == self.low[:-1] + PAST


NULL = Range(CLOSE, PAST)
NOT_NULL = Range(PAST, None)


@dataclass(frozen=True, slots=True)
class KeySet:
    """Disjoint, ascending ranges."""

    ranges: tuple[Range, ...]

    @property
    def all_points(self) -> bool:
        """Whether it is a finite set of values."""
        return all(item.is_point for item in self.ranges)

    def __contains__(self, component: str) -> bool:
        text = component + CLOSE
        i = bisect_right(self.ranges, text, key=lambda item: item.low) - 1
        return i >= 0 and _below(text, self.ranges[i].high)

    def __and__(self, other: KeySet) -> KeySet:
        result: list[Range] = []
        i = j = 0
        while i < len(self.ranges) and j < len(other.ranges):
            a, b = self.ranges[i], other.ranges[j]
            low = max(a.low, b.low)
            high = _lower(a.high, b.high)
            if _below(low, high):
                result.append(Range(low, high))
            if high == a.high:
                i += 1
            else:
                j += 1
        return KeySet(tuple(result))

    def __or__(self, other: KeySet) -> KeySet:
        return union((*self.ranges, *other.ranges))

    def complement(self) -> KeySet:
        """All values but these and null."""
        result: list[Range] = []
        low = PAST
        for item in (KeySet((NOT_NULL,)) & self).ranges:
            if item.low > low:
                result.append(Range(low, item.low))
            if item.high is None:
                return KeySet(tuple(result))
            low = item.high
        return KeySet((*result, Range(low, None)))


def union(ranges: tuple[Range, ...]) -> KeySet:
    """The ranges put in order, with those that touch made one."""
    result: list[Range] = []
    for item in sorted(ranges, key=lambda item: item.low):
        if not _below(item.low, item.high):
            continue
        last = result[-1] if result else None
        if last is None or _below(last.high, item.low):
            result.append(item)
        elif last.high is not None and _below(last.high, item.high):
            result[-1] = Range(last.low, item.high)
    return KeySet(tuple(result))


def point(component: str) -> Range:
    """The one value of this component; of the empty one, null."""
    return Range(component + CLOSE, component + PAST)


def span(low: str | None, high: str | None, *, low_included: bool = True, high_included: bool = True) -> Range:
    """The values between two components; None: no end there. Null is never in it."""
    start = PAST if low is None else low + (CLOSE if low_included else PAST)
    end = None if high is None else high + (PAST if high_included else CLOSE)
    return Range(start, end)


EMPTY = KeySet(())


def _below(text: str | None, high: str | None) -> bool:
    """`text < high`, where None is past every text."""
    return text is not None and (high is None or text < high)


def _lower(a: str | None, b: str | None) -> str | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)
