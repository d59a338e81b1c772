"""`bucketdex backfill` and `bucketdex verify`, on an index in this process."""

from __future__ import annotations

import csv
import io
import json
import random
from typing import Any

import pytest
from enginekit import Bench, documents

from bucketdex.cli.main import main
from bucketdex.cli.session import Session
from bucketdex.client import Database
from bucketdex.errors import AccessDeniedError


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    for i in range(12):
        bench.put(f"orders/{i:02d} é", documents(random.Random(i), 2))
    return bench


@pytest.fixture
def run(bench: Bench, capsys: pytest.CaptureFixture[str]) -> Any:
    database = Database(bench.index, bench.data, runtime=bench.runtime)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments, started=Session(lambda _: database))
        return code, *capsys.readouterr()

    return run


def test_backfill(run: Any, bench: Bench) -> None:
    code, out, _ = run("backfill", "run", "orders", "--dry-run", "-f", "json")
    told = json.loads(out)
    assert (code, told["listed"], told["due"], "applied" in told) == (0, 12, 12, False)
    assert told["reads_estimated"] >= 12 and 0 < told["dollars_estimated"] < 0.01
    assert bench.engine.load("orders").manifest.generation == 1
    code, out, err = run(
        "backfill", "run", "orders", "--prefix", "orders/0", "--rate", "1000", "--start-after", "orders/03 é"
    )
    assert (code, err) == (0, "") and [line.split() for line in out.splitlines()][4] == ["applied", "6"]
    assert run("backfill", "run", "orders")[0] == 0
    code, out, _ = run("backfill", "run", "orders", "--force", "--format", "csv")
    [row] = csv.DictReader(io.StringIO(out))
    assert (row["listed"], row["unchanged"], row["applied"], row["failures"]) == ("12", "0", "12", "0")
    assert bench.contents() == bench.rebuilt()


def test_backfill_that_is_interrupted_says_how_to_go_on(
    run: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bucketdex.engine.backfill.BATCH_KEYS", 5)
    plain, left = bench.data.open, [7]

    def opening(key: str, **options: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return plain(key, **options)

    with monkeypatch.context() as patch:
        patch.setattr(bench.data, "open", opening)
        code, out, err = run("backfill", "run", "orders")
    assert (code, out) == (130, "")
    assert "--start-after 'orders/04 é'" in err
    assert run("backfill", "run", "orders", "--start-after", "orders/04 é")[0] == 0
    assert bench.contents() == bench.rebuilt()


def test_failed_objects_are_named_and_the_code_is_1(run: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(key: str, **options: Any) -> Any:
        raise AccessDeniedError(f"GET {key}: denied,\nmend the permissions")

    with monkeypatch.context() as patch:
        patch.setattr(bench.data, "open", denied)
        code, out, err = run("backfill", "run", "orders", "-f", "json")
        assert code == 1 and json.loads(out)["failures"] == 12
        assert "orders/00 é: GET orders/00 é: denied, mend the permissions\n" in err
        assert err.endswith("12 objects failed; run it again\n") and len(err.splitlines()) == 11
        code, out, err = run("verify", "orders", "-f", "json")
        assert code == 1 and json.loads(out)["failures"] == 12
    assert run("backfill", "run", "orders")[0] == 0


def test_verify(run: Any, bench: Bench) -> None:
    run("backfill", "run", "orders")
    code, out, err = run("verify", "orders", "--deep")
    assert (code, err) == (0, "") and ["read", "12"] in [line.split() for line in out.splitlines()]
    bench.data.delete_many(["orders/03 é"])
    bench.put("orders/04 é", documents(random.Random(99), 1))
    expected = [
        {"key": "orders/03 é", "kind": "extra", "repaired": False},
        {"key": "orders/04 é", "kind": "stale", "repaired": False},
    ]
    code, out, _ = run("verify", "orders", "-f", "json")
    assert code == 1 and json.loads(out)["differences"] == expected
    code, out, _ = run("verify", "orders", "-f", "csv")
    assert code == 1 and out == "key,kind,repaired\norders/03 é,extra,false\norders/04 é,stale,false\n"
    code, out, _ = run("verify", "orders")
    assert code == 1 and "orders/03 é  extra" in out
    code, out, _ = run("verify", "orders", "--repair", "-f", "json")
    assert code == 0 and json.loads(out)["repaired"] == 2
    assert run("verify", "orders", "--deep", "--sample", "0.5")[0] == 0
    assert bench.contents() == bench.rebuilt()


def test_a_wrong_view_is_named(run: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run("backfill", "run", "orders")
    monkeypatch.setattr(
        "bucketdex.engine.verify.wrong_views",
        lambda snapshot: {"revenue.customer": "3 rows instead of 4", "objects": "bad"},
    )
    code, out, err = run("verify", "orders", "--deep", "--format", "json")
    assert code == 1 and json.loads(out)["views"] == {"revenue.customer": "3 rows instead of 4", "objects": "bad"}
    first, second = err.splitlines()
    assert first.startswith("view revenue.customer: 3 rows instead of 4; take revenue out")
    assert second.startswith("view objects: bad; ") and "rebuild" in second
    assert run("verify", "orders")[0] == 0, "without --deep views aren't read"


def test_reindex(run: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = run("reindex", "orders", "orders/00 é", "orders/01 é", "-f", "json")
    assert (code, err) == (0, "") and json.loads(out)["applied"] == 2
    bench.data.delete_many(["orders/01 é"])
    assert run("reindex", "orders", "orders/\udcff")[0] == 1, "an argument that is no UTF-8"
    code, out, err = run("reindex", "orders", "orders/01 é", "orders/none", "-f", "json")
    told = json.loads(out)
    assert (code, told["applied"], told["gone"], told["rows"]) == (0, 2, 2, 0)
    assert err.splitlines()[0] == "orders/01 é: no such object; rows that it had are gone from the index"
    keys = [f"orders/{i:02d} é" for i in range(12)]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([*keys, "bills/1", ""])))
    code, out, err = run("reindex", "orders", "-", "-f", "csv")
    [row] = csv.DictReader(io.StringIO(out))
    assert (code, row["applied"], row["foreign"]) == (1, "12", "1") and "bills/1: no key of table 'orders'\n" in err
    assert bench.contents() == bench.rebuilt()

    def denied(key: str, **options: Any) -> Any:
        raise AccessDeniedError(f"GET {key}: denied")

    monkeypatch.setattr(bench.data, "open", denied)
    code, out, err = run("reindex", "orders", *keys, "-f", "json")
    assert (code, json.loads(out)["failures"]) == (1, 12)
    assert len(err.splitlines()) == 11 and "orders/00 é: GET orders/00 é: denied\n" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("reindex", "orders"), "KEY"),
        (("reindex", "none", "x"), "none"),
        (("backfill", "run", "orders", "--rate", "0"), "positive"),
        (("backfill", "run", "orders", "--prefix", "x/"), "its keys start with 'orders/'"),
        (("verify", "orders", "--deep", "--sample", "2"), "sample"),
        (("verify", "orders", "--sample", "0.5"), "it needs deep (--deep)"),
        (("verify", "none"), "none"),
    ],
)
def test_misuse_is_one_line(run: Any, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (1, "") and err.startswith("error: ") and said in err and err.count("\n") == 1
