"""Plays many seeds and sums up what was exercised; stops at the first that fails and says how to play it again."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections import Counter

from world import run_seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--quiet", action="store_true")
    options = parser.parse_args()
    totals: Counter[str] = Counter()
    for seed in range(options.first, options.first + options.seeds):
        try:
            totals += run_seed(seed)
        except Exception:
            if not options.quiet:
                traceback.print_exc()
                print(f"play it again: python tests/simulation/soak.py --first {seed} --seeds 1")
            print(f"seed {seed}")
            raise SystemExit(1) from None
        if not options.quiet and seed % 100 == 99:
            print(f"{seed + 1 - options.first} seeds", file=sys.stderr, flush=True)
    if not options.quiet:
        for name, count in sorted(totals.items()):
            print(f"{name:20} {count:>10,}")


if __name__ == "__main__":
    main()
