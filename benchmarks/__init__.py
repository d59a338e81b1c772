"""Counted requests and measured rates: `python -m benchmarks`, and the cost table of the README (`cost.py`)."""
