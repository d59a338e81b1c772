"""What the command line writes: tables for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketdex.cli import output
from bucketdex.cli.output import Format, write_facts, write_rows

ROWS: list[dict[str, Any]] = [
    {
        "id": "1",
        "amount": Decimal("1E+2"),
        "at": datetime(2026, 1, 2, 3, 4, 5, 678, UTC),
        "tags": ["a", "b"],
        "ok": True,
    },
    {"id": None, "amount": None, "at": None, "tags": [], "ok": None, "day": date(2026, 1, 2)},
]
COLUMNS = ["id", "amount", "at", "tags", "ok", "day"]

Captured = pytest.CaptureFixture[str]


def test_json_is_one_array_without_loss(capsys: Captured) -> None:
    write_rows(ROWS, COLUMNS, Format.JSON)
    out = capsys.readouterr().out
    assert json.loads(out) == [
        {"id": "1", "amount": "100", "at": "2026-01-02T03:04:05.000678Z", "tags": ["a", "b"], "ok": True},
        {"id": None, "amount": None, "at": None, "tags": [], "ok": None, "day": "2026-01-02"},
    ]
    assert len(out.splitlines()) == len(ROWS)


def test_json_without_rows_is_an_empty_array(capsys: Captured) -> None:
    write_rows([], COLUMNS, Format.JSON)
    assert json.loads(capsys.readouterr().out) == []


def test_csv(capsys: Captured) -> None:
    write_rows(ROWS, COLUMNS, Format.CSV)
    assert list(csv.reader(io.StringIO(capsys.readouterr().out))) == [
        COLUMNS,
        ["1", "100", "2026-01-02T03:04:05.000678Z", '["a", "b"]', "true", ""],
        ["", "", "", "[]", "", "2026-01-02"],
    ]


def test_a_table_in_a_pipe_cuts_nothing(capsys: Captured) -> None:
    write_rows([{"id": "x" * 500}, {"id": "y"}], ["id"], Format.TABLE)
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == ["id", "x" * 500, "y"]


def test_a_table_ends_and_says_so(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "TABLE_ROWS_MAX", 3)
    write_rows(({"id": number} for number in range(4)), ["id"], Format.TABLE)
    captured = capsys.readouterr()
    assert captured.out.split() == ["id", "0", "1", "2"]
    assert "only the first 3 rows" in captured.err
    write_rows(({"id": number} for number in range(3)), ["id"], Format.TABLE)
    assert capsys.readouterr().err == ""


def test_values_are_text_and_never_markup_or_control(capsys: Captured) -> None:
    write_rows([{"id": "[red]\x1b[31m\nx"}], ["id"], Format.TABLE)
    write_facts({"id": "[bold]\x07"})
    out = capsys.readouterr().out
    assert "[red]\\x1b[31m\\nx" in out
    assert "[bold]\\x07" in out


@given(st.lists(st.fixed_dictionaries({"a": st.none() | st.text(), "b": st.integers()})))
def test_any_text_is_read_back(rows: list[dict[str, Any]]) -> None:
    assert json.loads(written(rows, Format.JSON)) == rows
    back = list(csv.DictReader(io.StringIO(written(rows, Format.CSV), newline="")))
    assert back == [{"a": row["a"] or "", "b": str(row["b"])} for row in rows]


def written(rows: list[dict[str, Any]], form: Format) -> str:
    out = io.StringIO(newline="")
    with pytest.MonkeyPatch().context() as patched:
        patched.setattr("sys.stdout", out)
        write_rows(rows, ["a", "b"], form)
    return out.getvalue()
