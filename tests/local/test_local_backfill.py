"""Backfills that the deployment works off by itself: objects that no event told of, a definition that was changed."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bucketdex import Database, Table, local
from bucketdex.cli.main import main
from tests.local.conftest import Pipeline

TABLE = """
[source]
prefix = "things/"
format = "ndjson"

[fields]
id = "string"
size = "int"

[indexes]
by_id = ["id"]
by_size = ["size"]
"""
ODD_KEYS = ["things/a b+c", "things//x", "things/../y", "things/\x01", "things/é\uffff", 'things/&<>"']
KEYS = [*ODD_KEYS, *(f"things/{i:04d}" for i in range(250))]


def body(number: int) -> bytes:
    return json.dumps({"id": f"t{number}", "size": number % 7, "colour": "red"}).encode()


class Things(Pipeline):
    """A stack of one table, deployed beside the others on the same emulator."""

    def __init__(self, tables: Path, home: str) -> None:
        self.tables, self.home = tables, home
        super().__init__(self.deploy(TABLE))

    def deploy(self, table: str) -> local.Deployment:
        (self.tables / "things.toml").write_text(table)
        return local.deploy(self.tables, stack="Things", directory=self.home)

    def silently(self, keys: dict[str, bytes]) -> None:
        """Uploads that S3 announces to nobody."""
        wired = self.s3.get_bucket_notification_configuration(Bucket=self.bucket)
        wired.pop("ResponseMetadata")
        self.s3.put_bucket_notification_configuration(Bucket=self.bucket, NotificationConfiguration={})
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda item: self.put_bytes(*item), keys.items()))
        self.s3.put_bucket_notification_configuration(Bucket=self.bucket, NotificationConfiguration=wired)

    @property
    def database_url(self) -> str:
        return f"s3://{self.deployment.outputs['IndexBucketName']}"

    def again(self) -> Table:
        """The table, as a client sees it that knows nothing yet."""
        return Database.from_stack("Things").table("things")

    def status(self) -> dict[str, Any]:
        return self.database.table("things").backfill_job().status() or {"state": "none"}


@pytest.fixture(scope="module")
def things(deployment: local.Deployment, tmp_path_factory: pytest.TempPathFactory) -> Things:
    return Things(tmp_path_factory.mktemp("things"), deployment.directory)


def test_objects_that_no_event_told_of(things: Things, capsys: pytest.CaptureFixture[str]) -> None:
    things.silently({key: body(number) for number, key in enumerate(KEYS)})
    assert main(["backfill", "start", "things", "--index", things.database_url]) == 0
    assert "within 15 minutes" not in capsys.readouterr().err
    things.put("things/live", {"id": "live", "size": 1})
    things.eventually(lambda: things.status()["state"] == "done")
    status = things.status()
    assert (status["sent"] >= len(KEYS), status["left"], status["error"]) == (True, 0, None)
    table = things.database.table("things")
    things.eventually(lambda: table.count() == len(KEYS) + 1)
    assert sorted(table.keys()) == sorted([*KEYS, "things/live"])
    assert table.verify(settle_seconds=0.1).is_good


def test_a_changed_definition_is_read_in_and_takes_over_by_itself(things: Things) -> None:
    table = things.database.table("things")
    before = table.count()
    things.deploy(TABLE.replace('size = "int"', 'size = "int"\ncolour = "string"\n'))
    things.put("things/later", {"id": "later", "size": 1, "colour": "blue"})
    assert table.count() >= before, "queries go on meanwhile"
    things.eventually(lambda: "colour" in {field.name for field in things.again().definition.fields})
    things.eventually(lambda: things.status()["state"] == "done")
    things.settle()
    table = things.again()
    assert table.count() == len(table.keys()) == before + 1
    assert (table.get("things/later")["colour"], table.get("things/0000")["colour"]) == ("blue", "red")
    assert table.where(size=3).count() == sum(1 for number in range(len(KEYS)) if number % 7 == 3)
    assert table.verify(deep=True, settle_seconds=0.1).is_good
    assert things.dead_letters() == 0
