"""The filter: no false negatives, few false positives, small requests."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bucketdex.storage import FileEntry, filter_request, may_contain
from bucketdex.storage.filter import build_filter, digests, filter_bytes


class Filter:
    """A filter in a file that is nothing else, with a footer of 5 bytes."""

    def __init__(self, components: list[str]) -> None:
        self.frames, shape = build_filter(list(digests(components)))
        self.entry = FileEntry("p", "", "", 0, 0, len(self.frames) + 5, 5, shape)
        assert filter_bytes(shape) == len(self.frames)

    def __contains__(self, component: str) -> bool:
        request = filter_request(self.entry, component)
        assert request.start is not None
        assert request.length is not None
        assert request.length <= 4096 + 12
        body = self.frames[request.start : request.start + request.length]
        assert len(body) == request.length
        return may_contain(body, self.entry, component)


@settings(deadline=None)
@given(st.sets(st.text(st.characters(exclude_categories=["Cs"], min_codepoint=1)), max_size=200))
def test_nothing_that_is_there_is_denied(components: set[str]) -> None:
    held = Filter(sorted(components))
    for component in components:
        assert component in held
        assert component + "\x00" in held, "a component may be given with the U+0000 that ends it"
        assert component + "\x00more\x00" in held


def test_nothing_is_denied_across_partitions() -> None:
    components = [f"=orders/{n:07d}.json" for n in range(30_000)]
    held = Filter(components)
    assert held.entry.filter == (10, 4096)
    assert all(component in held for component in components)


def test_few_that_are_not_there_are_admitted() -> None:
    shapes = {
        "sequence": [f"=orders/{n:07d}.json" for n in range(20_000)],
        "numbers": [f"{n * 7919 + 2**63:016x}" for n in range(20_000)],
        "words": [f"={chr(97 + n % 26)}{n}" for n in range(20_000)],
    }
    for name, texts in shapes.items():
        held = Filter(texts[::2])
        admitted = sum(text in held for text in texts[1::2]) / 10_000
        assert 0.001 < admitted < 0.02, f"{name}: {admitted}"


def test_a_full_filter_is_ten_bits_a_key() -> None:
    for count in (1, 12, 13, 3276, 3277, 100_000):
        frames, (partitions, size) = build_filter(list(digests(f"={n}" for n in range(count))))
        assert 16 <= size <= 4096
        assert size & (size - 1) == 0
        assert partitions * size * 8 >= 10 * count
        assert len(frames) <= max(30, 2 * count * 10 / 8 + 4200)


def test_the_bits_never_change() -> None:
    frames, shape = build_filter(list(digests(["=a", "=b", "=c"])))
    assert shape == (1, 16)
    assert frames.hex() == "502a4d18140000004ec85d4740020000200128010a00000010480000"
