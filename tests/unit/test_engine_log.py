"""What the commit log says of the keys that were touched since a generation, and when it must say that it doesn't know."""

from __future__ import annotations

import random

import pytest
from enginekit import TINY, TestRuntime
from hypothesis import given
from hypothesis import strategies as st

from bucketdex.engine.commit import RedoEverythingError, replacement, touched_bytes, touched_since
from bucketdex.storage import LogEntry, Manifest

KEYS = [f"k{i}" for i in range(12)]


def chain(commits: list[set[str]]) -> tuple[Manifest, list[set[str]]]:
    """The manifest after these commits, and what each generation touched."""
    first = LogEntry(id="0", generation=1, kind="definition", touched=b"")
    manifest = Manifest(format=1, reader=1, table="t", generation=1, commit="0", log=[first])
    for keys in commits:
        kind = "commit" if keys else "compaction"
        manifest = replacement(
            manifest, kind, TestRuntime(), TINY, touched=touched_bytes(keys, TINY), objects=len(keys)
        )
    return manifest, [set(), *commits]


@given(st.lists(st.sets(st.sampled_from(KEYS)), max_size=9), st.sets(st.sampled_from(KEYS)), st.integers(1, 10))
def test_a_touched_key_is_never_missed(commits: list[set[str]], ours: set[str], since: int) -> None:
    manifest, touched = chain(commits)
    since = min(since, manifest.generation)
    later = touched[since:]
    try:
        found = touched_since(manifest, since, ours)
    except RedoEverythingError:
        hashes = sum(8 * len(keys) for keys in later if len(keys) <= TINY.touched_max)
        assert len(later) > TINY.log_entries_max or hashes > TINY.log_bytes_max
        return
    if any(len(keys) > TINY.touched_max for keys in later):
        assert found == ours
    else:
        assert found == ours & set().union(*later)


def test_the_log_stays_contiguous_and_within_its_bounds() -> None:
    r = random.Random(1)
    manifest, _ = chain([set(r.sample(KEYS, r.randrange(0, 9))) for _ in range(40)])
    generations = [entry.generation for entry in manifest.log]
    assert generations == list(range(manifest.generation - len(generations) + 1, manifest.generation + 1))
    assert manifest.log[-1].id == manifest.commit
    assert 1 < len(generations) <= TINY.log_entries_max
    assert sum(len(entry.touched or b"") for entry in manifest.log) <= TINY.log_bytes_max
    with pytest.raises(RedoEverythingError):
        touched_since(manifest, generations[0] - 2, set(KEYS))
    assert touched_since(manifest, manifest.generation, set(KEYS)) == set()
