"""Many at one manifest, and merges longer than a function lives: waiting ends on the newest base, work goes on where it
stopped, folds come first."""

import random
from typing import Any

import msgspec
import pytest
from enginekit import TINY, Bench, InterleavingStore, documents, interrupted, read_in_blocks

from bucketdex.engine import Engine, Event
from bucketdex.errors import CommitGaveUpError
from bucketdex.storage import CountingStore, ManifestStore, SwapLostError, open_index_store
from functions.compactor.maintenance import compact

MANIFEST = "/manifest.json"


def crowded() -> tuple[Bench, list[int]]:
    """A bench whose every wait is long enough for somebody else's commit; the PUTs of the manifest that it took."""
    index = InterleavingStore(open_index_store("memory://"))
    bench = Bench(settings=msgspec.structs.replace(TINY, backoff_seconds_first=1.0), index=index)
    other = Engine(index.inner, bench.data, bench.runtime, settings=TINY)
    for number in range(9):
        bench.put(f"orders/{number}", documents(random.Random(number), 3))
    others = iter(range(9))
    puts: list[int] = []

    def elsewhere(*_: Any) -> None:
        if (number := next(others, None)) is not None:
            other.apply("orders", [Event(f"orders/{number}")])

    def before_swap() -> None:
        if not puts:
            elsewhere()
        puts.append(1)

    bench.runtime.sleep = elsewhere  # type: ignore[method-assign]
    index.before_swap = before_swap
    return bench, puts


def test_a_commit_that_waited_swaps_on_what_stands_then() -> None:
    bench, puts = crowded()
    bench.put("orders/mine", documents(random.Random(0), 3))
    bench.apply("orders/mine")
    assert len(puts) == 2, "one lost, one on the newest base"
    bench.index.before_swap = None  # type: ignore[attr-defined]
    bench.apply(*(f"orders/{number}" for number in range(9)))
    assert bench.contents() == bench.rebuilt()


def test_a_compaction_that_waited_swaps_on_what_stands_then() -> None:
    bench, puts = crowded()
    bench.engine.sweep("orders")
    assert len(puts) == 2


@pytest.mark.parametrize("turn_steps", [1, 2, 5])
def test_a_merge_longer_than_a_turn_comes_to_its_end(monkeypatch: pytest.MonkeyPatch, turn_steps: int) -> None:
    """Without writing again what it has written: about one and a half times the rows, the ends of steps included."""
    read_in_blocks(monkeypatch)
    bench = Bench(settings=msgspec.structs.replace(TINY, delta_rows_max=1, flush_rows=10**6, alone_rows=10**6))
    counted = CountingStore(bench.index)
    compactor = Engine(counted, bench.data, bench.runtime, settings=bench.settings)
    for number in range(4):
        bench.put(f"orders/{number}", documents(random.Random(number), 60))
        bench.apply(f"orders/{number}")
    rows = sum(run.rows for run in bench.engine.load("orders").manifest.views["by_amount"].runs)
    landed = 0
    for _ in range(60):
        steps = compactor.compact("orders", "by_amount", mode="tiered", in_time=interrupted(1 + turn_steps))
        landed += steps
        if not steps:
            break
        bench.put("orders/new", documents(random.Random(landed), 1))
        bench.apply("orders/new")
    state = bench.engine.load("orders").manifest.views["by_amount"]
    assert not any(run.start for run in state.runs)
    assert max(run.rows for run in state.runs) > 0.9 * rows
    written = sum(entry.bytes for entry in counted.log if entry.op == "put" and "/views/" in entry.key)
    assert written < 2 * sum(run.bytes for run in state.runs)
    bench.apply(*(f"orders/{number}" for number in range(4)))
    assert bench.contents() == bench.rebuilt()


def test_a_long_merge_lets_folds_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    read_in_blocks(monkeypatch)
    index = InterleavingStore(open_index_store("memory://"))
    bench = Bench(settings=msgspec.structs.replace(TINY, flush_rows=10**6, alone_rows=10**6), index=index)
    for number in range(4):
        bench.put(f"orders/{number}", documents(random.Random(number), 100))
        bench.apply(f"orders/{number}")
    other = Engine(index.inner, bench.data, bench.runtime, settings=bench.settings)
    unfolded: list[int] = []

    def before_swap() -> None:
        if len(unfolded) < 60 and len(unfolded) % 2 == 0:
            bench.put(f"orders/x{len(unfolded)}", documents(random.Random(len(unfolded)), 1))
            other.apply("orders", [Event(f"orders/x{len(unfolded)}")])
        manifest = other.load("orders").manifest
        unfolded.append(sum(1 for delta in manifest.deltas if delta.added > manifest.views["by_amount"].folded))

    index.before_swap = before_swap
    bench.engine.compact("orders", "by_amount", mode="tiered")
    assert len(unfolded) > 12, "the merge is to be longer than what calls for a fold"
    assert max(unfolded) <= 3 * TINY.debt_deltas
    index.before_swap = None
    assert bench.contents() == bench.rebuilt()


def test_a_compactor_that_gives_up_leaves_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the message to fail, its group would be hidden for the queue's visibility, and the view with it."""
    bench = Bench(settings=msgspec.structs.replace(TINY, attempts_max=2))
    for number in range(5):
        bench.put(f"orders/{number}", documents(random.Random(number), 1))
        bench.apply(f"orders/{number}")

    def lost(self: ManifestStore, base: Any, new: Any) -> Any:
        raise SwapLostError(base)

    monkeypatch.setattr(ManifestStore, "swap", lost)
    with pytest.raises(CommitGaveUpError):
        bench.engine.compact("orders", "by_amount", mode="tiered")
    assert compact(bench.engine, "orders", "by_amount", time_left=lambda: True) == 0


def test_a_compaction_that_loses_all_its_swaps_for_a_while_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.put("orders/a", documents(random.Random(2), 3))
    bench.apply("orders/a")
    lost = iter(range(3 * TINY.attempts_max))
    real = ManifestStore.swap

    def swap(self: ManifestStore, base: Any, new: Any) -> Any:
        if next(lost, None) is not None:
            raise SwapLostError(self.load("orders"))
        return real(self, base, new)

    monkeypatch.setattr(ManifestStore, "swap", swap)
    bench.engine.compact("orders", mode="full")
    assert next(lost, None) is None
    assert all(len(state.runs) <= 1 for state in bench.engine.load("orders").manifest.views.values())
    assert bench.contents() == bench.rebuilt()
