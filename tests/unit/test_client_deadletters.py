"""Dead letters: seen once and left alone, sent again without a loss whatever fails, dropped only when told so."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given, settings
from hypothesis import strategies as st

from bucketdex.cli.main import main
from bucketdex.client import deadletters
from bucketdex.client.deadletters import SOURCES, DeadLetters
from bucketdex.errors import BucketdexError
from tests.unit.test_functions_events import s3_record

OUTPUTS = {name: f"https://sqs/{name}" for source in SOURCES.values() for name in (source.dead, source.alive)}
OUTPUTS |= {
    "MaintenanceQueueUrl": "https://sqs/maintenance.fifo",
    "MaintenanceDeadLetterQueueUrl": "https://sqs/dead.fifo",
}
OUTPUTS |= {"IndexerLogGroup": "/indexer", "CompactorLogGroup": "/compactor", "IndexBucketName": "index"}
DEAD = {name: OUTPUTS[source.dead] for name, source in SOURCES.items()}
EVENTS = OUTPUTS["EventQueueUrl"]


@dataclass
class Message:
    id: str
    body: str
    attributes: dict[str, Any] = field(default_factory=dict)
    group: str | None = None
    deduplication: str | None = None
    receipt: str = ""
    receives: int = 0
    hidden_until: float = 0.0


class Queues:
    """SQS as far as it matters here: what is received hides, FIFO groups wait, receipts grow old.

    `before(action)` may raise; `after(action)` too, when the effect is there already; `refuse(id)` fails an entry.
    """

    def __init__(self) -> None:
        self.queues: dict[str, list[Message]] = {url: [] for url in OUTPUTS.values()}
        self.clock = 0.0
        self.numbers = 0
        self.before: Callable[[str], None] = lambda action: None
        self.after: Callable[[str], None] = lambda action: None
        self.refuse: Callable[[str, str], bool] = lambda action, body: False

    def add(self, url: str, body: object, **fields: Any) -> str:
        self.numbers += 1
        text = body if isinstance(body, str) else json.dumps(body)
        self.queues[url].append(Message(f"m{self.numbers}", text, **fields))
        return f"m{self.numbers}"

    def bodies(self, url: str) -> list[str]:
        return [message.body for message in self.queues[url]]

    def receive_message(self, *, QueueUrl: str, **options: Any) -> dict[str, Any]:  # noqa: N803
        assert options.pop("WaitTimeSeconds") > 0, "a short poll may miss messages"
        count, hold = options.pop("MaxNumberOfMessages"), options.pop("VisibilityTimeout")
        assert options == {"AttributeNames": ["All"], "MessageAttributeNames": ["All"]}
        self.before("receive")
        busy = {m.group for m in self.queues[QueueUrl] if m.group and m.hidden_until > self.clock}
        waiting = [m for m in self.queues[QueueUrl] if m.hidden_until <= self.clock and m.group not in busy]
        for message in waiting[:count]:
            message.receives += 1
            message.receipt = f"{message.id}/{message.receives}"
            message.hidden_until = self.clock + hold
        self.after("receive")
        self.clock += 1
        return {
            "Messages": [
                {
                    "MessageId": m.id, "Body": m.body, "ReceiptHandle": m.receipt, "MessageAttributes": m.attributes,
                    "Attributes": {"SentTimestamp": "86400000", "ApproximateReceiveCount": str(m.receives)}
                    | ({"MessageGroupId": m.group} if m.group else {}),
                }
                for m in waiting[:count]
            ]
        }  # fmt: skip

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        assert 1 <= len(Entries) <= 10 and sum(len(e["MessageBody"].encode()) for e in Entries) <= 262_144
        self.before("send")
        answer: dict[str, Any] = {"Successful": [], "Failed": []}
        for entry in Entries:
            if self.refuse("send", entry["MessageBody"]):
                answer["Failed"].append({"Id": entry["Id"], "Message": "refused"})
                continue
            known = [m for m in self.queues[QueueUrl] if m.deduplication]
            twin = next((m for m in known if m.deduplication == entry.get("MessageDeduplicationId")), None)
            made = twin.id if twin else self.add(
                QueueUrl, entry["MessageBody"], attributes=entry.get("MessageAttributes", {}),
                group=entry.get("MessageGroupId"), deduplication=entry.get("MessageDeduplicationId"),
            )  # fmt: skip
            answer["Successful"].append({"Id": entry["Id"], "MessageId": made})
        self.after("send")
        return answer

    def delete_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        self.before("delete")
        by_receipt = {m.receipt: m for m in self.queues[QueueUrl]}
        answer: dict[str, Any] = {"Successful": [], "Failed": []}
        for entry in Entries:
            message = by_receipt.get(entry["ReceiptHandle"])
            if message is None or self.refuse("delete", message.body):
                answer["Failed"].append({"Id": entry["Id"]})
            else:
                self.queues[QueueUrl].remove(message)
                answer["Successful"].append({"Id": entry["Id"]})
        self.after("delete")
        return answer

    def change_message_visibility_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> None:  # noqa: N803
        assert 1 <= len(Entries) <= 10
        self.before("give back")
        wanted = {entry["ReceiptHandle"]: entry["VisibilityTimeout"] for entry in Entries}
        for message in self.queues[QueueUrl]:
            if message.receipt in wanted:
                message.hidden_until = self.clock + wanted[message.receipt]

    def get_queue_attributes(self, *, QueueUrl: str, AttributeNames: list[str]) -> dict[str, Any]:  # noqa: N803
        hidden = sum(m.hidden_until > self.clock for m in self.queues[QueueUrl])
        counts = (len(self.queues[QueueUrl]) - hidden, hidden)
        return {"Attributes": {name: str(count) for name, count in zip(AttributeNames, counts, strict=True)}}


def event(*keys: str) -> dict[str, Any]:
    return {"Records": [s3_record("ObjectCreated:Put", key, sequencer="1", size=1) for key in keys]}


@pytest.fixture
def sqs() -> Queues:
    return Queues()


@pytest.fixture
def letters(sqs: Queues) -> DeadLetters:
    return DeadLetters(OUTPUTS, sqs, table_of=lambda key: key.split("/")[0] if "/" in key else None)  # type: ignore[arg-type]


def test_every_message_is_listed_once_with_what_it_asks_for(sqs: Queues, letters: DeadLetters) -> None:
    sqs.add(DEAD["events"], event("orders/a b+ü", "bills/1", "none"))
    why = {"ErrorMessage": {"StringValue": "no such queue", "DataType": "String"}}
    sqs.add(DEAD["undelivered"], event("orders/2"), attributes=why)
    sqs.add(DEAD["undelivered"], {"Type": "Notification", "Message": json.dumps(event("orders/3"))})
    sqs.add(DEAD["maintenance"], {"table": "orders", "view": "by_id"}, group="g")
    sqs.add(DEAD["backfill"], {"backfill": {"job": "j", "table": "orders", "keys": [["orders/4", 1]]}})
    for odd in ("{", "[]", "3", '"text"', "null", "{}", '{"Records": [{}]}', '{"Records": 3}', '{"Event": "x"}'):
        sqs.add(DEAD["events"], odd)
    found = {letter.id: letter for letter in letters.letters()}
    assert len(found) == 14
    first = found["m1"]
    assert (first.queue, first.tables, first.keys) == (
        "events",
        ("orders", "bills"),
        ("orders/a b+ü", "bills/1", "none"),
    )
    assert (first.sent_at, first.receives, first.why, first.log) == (86400.0, 1, None, "/indexer")
    assert (found["m2"].keys, found["m2"].why, found["m2"].log) == (("orders/2",), "no such queue", None)
    assert found["m3"].keys == ("orders/3",)
    assert (found["m4"].tables, found["m4"].view, found["m4"].log) == (("orders",), "by_id", "/compactor")
    assert (found["m5"].tables, found["m5"].keys) == (("orders",), ("orders/4",))
    assert {found[f"m{number}"].why for number in range(6, 15)} == {"no message of Bucketdex"}


def test_listing_leaves_everything_visible(sqs: Queues, letters: DeadLetters) -> None:
    for number in range(25):
        sqs.add(DEAD["events"], event(f"orders/{number}"))
        sqs.add(DEAD["undelivered"], event(f"orders/u{number}"))
    assert len(letters.letters()) == 50
    for name in ("events", "undelivered"):
        assert not any(message.hidden_until > sqs.clock for message in sqs.queues[DEAD[name]])
    assert [len(letters.letters(limit=limit)) for limit in (1, 12, 25, 31, 50, 99)] == [1, 12, 25, 31, 50, 50]
    assert len(letters.letters("undelivered", limit=30)) == 25
    assert not any(message.hidden_until > sqs.clock for queue in sqs.queues.values() for message in queue)
    with pytest.raises(BucketdexError, match="did you mean 'events'"):
        letters.letters("event")


def test_a_queue_that_takes_longer_than_a_hold_is_looked_through(sqs: Queues, letters: DeadLetters) -> None:
    ids = [sqs.add(DEAD["events"], event(f"orders/{number}")) for number in range(2_000)]  # each ten take a second
    assert {letter.id for letter in letters.letters("events")} == set(ids)
    assert max(message.receives for message in sqs.queues[DEAD["events"]]) <= 4
    assert not any(message.hidden_until > sqs.clock for message in sqs.queues[DEAD["events"]])
    moved = letters.redrive("events", ids=[ids[-1], "gone"])
    assert (moved.done, moved.missing) == (1, ["gone"])


def test_listing_ends_when_messages_come_round_again(
    sqs: Queues, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadletters, "HOLD_SECONDS", 2)
    monkeypatch.setattr(deadletters, "HOLD_SECONDS_MAX", 4)  # each receive takes a second
    for number in range(60):
        sqs.add(DEAD["events"], event(f"orders/{number}"))
    found = [letter.id for letter in letters.letters("events")]
    assert len(found) == len(set(found)) >= 20


def test_redriven_messages_are_in_the_queue_that_they_came_from(sqs: Queues, letters: DeadLetters) -> None:
    bodies = [json.dumps(event(f"orders/{number}")) for number in range(23)]
    for body in bodies:
        sqs.add(DEAD["events"], body, attributes={"mine": {"StringValue": "x", "DataType": "String"}})
    plain, wrapped = json.dumps(event("orders/u")), json.dumps(event("orders/w"))
    sqs.add(DEAD["undelivered"], plain, attributes={"ErrorCode": {"StringValue": "403", "DataType": "String"}})
    sqs.add(DEAD["undelivered"], json.dumps({"Type": "Notification", "Message": wrapped}))
    for number in range(31):
        sqs.add(
            DEAD["maintenance"], {"table": "orders", "view": f"v{number}"}, group=f"g{number % 2}", deduplication="old"
        )
    moved = letters.redrive()
    assert (moved.found, moved.done, moved.is_good) == (56, 56, True)
    assert not any(sqs.queues[url] for url in DEAD.values())
    assert sorted(sqs.bodies(EVENTS)) == sorted([*bodies, plain, wrapped])
    assert Counter(str(m.attributes) for m in sqs.queues[EVENTS])["{}"] == 2, "our own attributes stay, SNS's go"
    again = sqs.queues[OUTPUTS["MaintenanceQueueUrl"]]
    assert len(again) == 31 and len({m.deduplication for m in again} - {"old"}) == 31
    for message in again:
        assert message.group == f"g{int(json.loads(message.body)['view'][1:]) % 2}"


def test_large_messages_go_in_several_calls(sqs: Queues, letters: DeadLetters) -> None:
    for number in range(9):
        sqs.add(DEAD["events"], event("orders/" + "ü" * (number % 3) * 10_000))
    assert letters.redrive("events").done == 9


def test_by_id(sqs: Queues, letters: DeadLetters) -> None:
    ids = [sqs.add(DEAD[name], event(f"orders/{number}")) for number in range(30) for name in ("events", "backfill")]
    wanted = {ids[3], ids[40], ids[59]}
    moved = letters.redrive(ids=[*wanted, "gone"])
    assert (moved.found, moved.done, moved.missing, moved.is_good) == (3, 3, ["gone"], False)
    left = {message.id for name in ("events", "backfill") for message in sqs.queues[DEAD[name]]}
    assert left == set(ids) - wanted
    dropped = letters.drop("events", ids=[ids[0], ids[1]])
    assert (dropped.done, dropped.missing) == (1, [ids[1]]), "the other is of another queue"
    assert not any(m.hidden_until > sqs.clock for m in sqs.queues[DEAD["events"]])


def test_what_is_refused_stays_and_is_told(sqs: Queues, letters: DeadLetters) -> None:
    for number in range(12):
        sqs.add(DEAD["events"], event(f"orders/{number:02d}"))
    sqs.refuse = lambda action, body: (
        ("orders/03" in body and action == "send") or ("05" in body and action == "delete")
    )
    moved = letters.redrive(ids=[f"m{number}" for number in range(1, 13)])
    assert (moved.found, moved.done, moved.failed, moved.kept, moved.missing) == (12, 10, 1, 1, [])
    assert moved.errors == ["m4: refused"] and not moved.is_good
    assert [m.id for m in sqs.queues[DEAD["events"]]] == ["m4", "m6"]
    assert not any(m.hidden_until > sqs.clock for m in sqs.queues[DEAD["events"]])
    sqs.refuse = lambda action, body: False
    assert letters.redrive().done == 2
    assert Counter(sqs.bodies(EVENTS)).most_common(1)[0][1] == 2, "one that comes twice: an event is a hint"


def test_what_fails_at_once_again_is_not_sent_for_ever(sqs: Queues, letters: DeadLetters) -> None:
    for number in range(15):
        sqs.add(DEAD["events"], event(f"orders/{number}"))

    def fail_at_once(action: str) -> None:
        if action == "send":
            sqs.queues[DEAD["events"]] += sqs.queues[EVENTS]
            sqs.queues[EVENTS].clear()

    sqs.after = fail_at_once
    moved = letters.redrive("events")
    assert (moved.done, moved.returned, moved.is_good) == (15, 15, False)
    assert len(sqs.queues[DEAD["events"]]) == 15


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_crash_anywhere_loses_nothing(data: st.DataObject) -> None:
    """Some call fails, before or after its effect; then it is run again: every message is in its queue, or here."""
    sqs = Queues()
    letters = DeadLetters(OUTPUTS, sqs)  # type: ignore[arg-type]
    for number in range(data.draw(st.integers(0, 25), label="events")):
        sqs.add(DEAD["events"], f"e{number}")
    for number in range(data.draw(st.integers(0, 25), label="maintenance")):
        sqs.add(DEAD["maintenance"], f"m{number}", group=f"g{number % 3}")
    bodies = {body for url in DEAD.values() for body in sqs.bodies(url)}
    left = data.draw(st.integers(0, 12), label="calls until the crash")
    late = data.draw(st.booleans(), label="after the effect")

    def crash(action: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise EndpointConnectionError(endpoint_url="https://sqs")

    setattr(sqs, "after" if late else "before", crash)
    with suppress(BucketdexError):
        letters.redrive()
    sqs.before = sqs.after = lambda action: None
    everywhere = {message.body for queue in sqs.queues.values() for message in queue}
    assert everywhere == bodies
    sqs.clock += deadletters.HOLD_SECONDS
    assert letters.redrive().is_good
    assert not any(sqs.queues[url] for url in DEAD.values())
    assert set(sqs.bodies(EVENTS)) | set(sqs.bodies(OUTPUTS["MaintenanceQueueUrl"])) == bodies
    assert len(sqs.bodies(OUTPUTS["MaintenanceQueueUrl"])) == sum(body[0] == "m" for body in bodies), "once each"


def test_nothing_is_sent_where_the_stack_does_not_say_where_to(sqs: Queues) -> None:
    outputs = {name: value for name, value in OUTPUTS.items() if name != "EventQueueUrl"}
    sqs.add(DEAD["events"], event("orders/1"))
    sqs.add(DEAD["backfill"], "page")
    letters = DeadLetters(outputs, sqs)  # type: ignore[arg-type]
    with pytest.raises(BucketdexError, match="no output EventQueueUrl"):
        letters.redrive()
    assert (len(letters.letters()), letters.redrive("backfill").done) == (2, 1)


def test_a_stack_that_says_nothing_of_its_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadletters, "stack_outputs", lambda name: {"IndexBucketName": "index"})
    with pytest.raises(BucketdexError, match="deploy it again"):
        DeadLetters.from_stack("Old")


# The command line


@pytest.fixture
def run(sqs: Queues, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    stacks: list[str] = []

    def from_stack(name: str) -> DeadLetters:
        stacks.append(name)
        return letters

    monkeypatch.delenv("BUCKETDEX_STACK", raising=False)
    monkeypatch.setattr(DeadLetters, "from_stack", from_stack)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(("dlq", *arguments))
        return code, *capsys.readouterr()

    run.stacks = stacks  # type: ignore[attr-defined]
    return run


def test_list_says_what_where_and_how_to_learn_why(run: Any, sqs: Queues, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("list") == (0, "queue  id  sent_at  receives  tables  keys  view  why\n", "no dead letters\n")
    sqs.add(DEAD["events"], event(*(f"orders/{number}" for number in range(5))))
    sqs.add(DEAD["maintenance"], {"table": "orders", "view": "by_id"}, group="g")
    code, out, err = run("list")
    assert code == 0 and "orders/0, orders/1, orders/2, and 2 more" in out and "see its log" in out
    assert "/indexer" in err and "/compactor" in err and '$.message_id = "ID"' in err
    code, out, err = run("list", "-f", "json", "--limit", "1", "--stack", "Shop")
    [row] = json.loads(out)
    assert len(row["keys"]) == 5 and (row["log"], row["sent_at"]) == ("/indexer", "1970-01-02T00:00:00.000000Z")
    assert "1 of about 2 are shown" in err
    monkeypatch.setenv("BUCKETDEX_STACK", "Other")
    code, out, _ = run("list", "--queue", "maintenance", "-f", "csv")
    assert [row["view"] for row in csv.DictReader(io.StringIO(out))] == ["by_id"]
    assert run.stacks == ["Bucketdex", "Bucketdex", "Shop", "Other"]


def test_redrive_and_drop_want_to_be_told_which(run: Any, sqs: Queues) -> None:
    ids = [sqs.add(DEAD["events"], event(f"orders/{number}")) for number in range(6)]
    for arguments in (("redrive",), ("redrive", "--all", "--id", "x"), ("drop",), ("drop", "--queue", "events")):
        code, out, err = run(*arguments)
        assert (code, out) == (1, "") and err.startswith("error: ") and err.count("\n") == 1, arguments
    assert "6 messages" in err and len(sqs.queues[DEAD["events"]]) == 6
    code, out, _ = run("redrive", "--id", ids[0], "--id", ids[1], "-f", "json")
    assert (code, json.loads(out)["done"]) == (0, 2)
    code, out, err = run("drop", "--id", ids[2], "--id", ids[0])
    assert code == 1 and f"no queue has a message {ids[0]}" in err
    assert [m.id for m in sqs.queues[DEAD["events"]]] == ids[3:]
    assert (
        run("redrive", "--queue", "undelivered", "--all", "-f", "csv")[1]
        == "found,done,kept,failed,returned\n0,0,0,0,0\n"
    )
    assert run("drop", "--yes", "--queue", "events")[0] == 0
    assert sqs.queues[DEAD["events"]] == [] and len(sqs.queues[EVENTS]) == 2
