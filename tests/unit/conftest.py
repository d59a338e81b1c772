"""The end of a run: how often the differential test drew what."""

from __future__ import annotations

import pytest

SHOWN = "test_differential.py::test_every_answer_equals_the_oracles"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed"):
        if report.nodeid.endswith(SHOWN) and report.capstdout:
            terminalreporter.section("random queries that equal the oracle's, by operator, type, nulls and order")
            terminalreporter.write_line(report.capstdout.strip("\n"))
