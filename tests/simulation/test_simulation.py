"""Seeds of the simulated world, each a schedule of the real engine under faults; see world.py for what is checked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from toxics import FAULTS
from world import run_seed

SEEDS, CHUNKS = 2_000, 80
REPLAYED = (20, 47, *range(100, 108))  # of the first two, batches with several objects that turn out to be large


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_the_index_is_exact_under_every_schedule(chunk: int) -> None:
    totals: Counter[str] = Counter()
    for seed in range(chunk, SEEDS, CHUNKS):
        try:
            totals += run_seed(seed)
        except BaseException as error:
            error.add_note(f"play it again: python tests/simulation/soak.py --seeds 1 --first {seed}")
            raise
    assert totals["commits"] and totals["snapshots checked"] and totals["mutations"]
    assert {fault for fault in FAULTS if not totals[fault]} <= {"reset"}, "faults that never happen"


def test_a_seed_replays_exactly_in_another_process() -> None:
    """Every store call, to the moment and the order: nothing depends on a clock, on chance or on the hashes of strings.

    Both processes are new, as that is with which a failing seed is played again.
    """
    code = "import sys\nfrom world import play\nfor seed in sys.argv[1:]: print(play(int(seed)).scheduler.digest)"
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parent)])
    digests = []
    for hash_seed in ("1", "5"):
        ran = subprocess.run(
            [sys.executable, "-c", code, *map(str, REPLAYED)], check=True, capture_output=True, text=True,
            env={"PYTHONPATH": path, "PYTHONHASHSEED": hash_seed},
        )  # fmt: skip
        digests.append(ran.stdout.split())
    assert digests[0] == digests[1] and len(set(digests[0])) == len(REPLAYED)
