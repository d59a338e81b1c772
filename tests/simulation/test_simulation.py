"""Seeds of the simulated world, each a schedule of the real engine under faults; see world.py for what is checked."""

from __future__ import annotations

from collections import Counter

import pytest
from world import run_seed

SEEDS, CHUNKS = 480, 24


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_the_index_is_exact_under_every_schedule(chunk: int) -> None:
    totals: Counter[str] = Counter()
    for seed in range(chunk, SEEDS, CHUNKS):
        try:
            totals += run_seed(seed)
        except BaseException as error:
            error.add_note(f"play it again: python tests/simulation/soak.py --first {seed} --seeds 1")
            raise
    assert totals["commits"] and totals["snapshots checked"] and totals["mutations"]


def test_a_seed_replays_exactly() -> None:
    assert run_seed(7) == run_seed(7)
