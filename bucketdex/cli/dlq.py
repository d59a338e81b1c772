"""Commands about messages that were given up: list, redrive, drop."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from bucketdex.cli.output import Format, note, write_facts, write_json, write_rows
from bucketdex.cli.progress import steps
from bucketdex.cli.session import FormatOption
from bucketdex.errors import BucketdexError

if TYPE_CHECKING:
    from bucketdex.client.deadletters import DeadLetter, DeadLetters, Moved

app = typer.Typer(help="The messages that a stack's queues have given up.", no_args_is_help=True)

LIMIT = 1_000
KEYS_SHOWN = 3
COLUMNS = ("queue", "id", "sent_at", "receives", "tables", "keys", "view", "why")

StackOption = Annotated[
    str,
    typer.Option("--stack", metavar="NAME", envvar="BUCKETDEX_STACK", show_envvar=False,
                 help="The deployed stack. Default: BUCKETDEX_STACK, else Bucketdex."),
]  # fmt: skip
QueueOption = Annotated[
    str | None,
    typer.Option("--queue", metavar="NAME", help="Of one queue only: events, undelivered, maintenance or backfill."),
]
IdOption = Annotated[
    list[str] | None, typer.Option("--id", metavar="ID", help="Only the message of this id; repeat it for several.")
]


@app.command("list")
def list_(
    stack: StackOption = "Bucketdex",
    queue: QueueOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="At most this many.")] = LIMIT,
    form: FormatOption = Format.TABLE,
) -> None:
    """Print the messages that were given up, and what they ask for. They stay where they are; for the moment that this
    takes nobody else receives them.

    A message doesn't hold the error that it ended by: the log of the function does.
    """
    letters = _dead_letters(stack)
    found = letters.letters(queue, limit=limit)
    write_rows([_row(letter, form) for letter in found], COLUMNS, form)
    for log in sorted({letter.log for letter in found if letter.log and not letter.why}):
        note(f"why: aws logs filter-log-events --log-group-name {log} --filter-pattern '{{ $.message_id = \"ID\" }}'")
    if not found:
        note("no dead letters")
    elif (counted := letters.count(queue)) > len(found):
        note(f"{len(found):,} of about {counted:,} are shown: raise --limit (of a FIFO group, SQS shows ten)")


@app.command()
def redrive(
    stack: StackOption = "Bucketdex",
    queue: QueueOption = None,
    ids: IdOption = None,
    every: Annotated[bool, typer.Option("--all", help="All messages of all queues, or of the one of --queue.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Send messages once more to the queue that they came from, after the cause is mended. Nothing is lost, and what
    comes twice changes nothing. Exits with 1 if any stays behind.
    """
    if bool(ids) == every:
        raise BucketdexError("say which: --all, or --id of each")
    with steps("sending again"):
        moved = _dead_letters(stack).redrive(queue, ids=ids)
    _finish(moved, ("found", "done", "kept", "failed", "returned"), form)


@app.command()
def drop(
    stack: StackOption = "Bucketdex",
    queue: QueueOption = None,
    ids: IdOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Without --id: yes, all of them.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Delete messages for good. What they told of is found by verify --repair. Exits with 1 if any stays behind."""
    letters = _dead_letters(stack)
    if not ids and not yes:
        raise BucketdexError(
            f"this would drop all, about {letters.count(queue):,} messages: say --yes, or --id of each"
        )
    with steps("dropping"):
        moved = letters.drop(queue, ids=ids or None)
    _finish(moved, ("found", "done", "kept"), form)


def _dead_letters(stack: str) -> DeadLetters:
    from bucketdex.client.deadletters import DeadLetters

    return DeadLetters.from_stack(stack)


def _row(letter: DeadLetter, form: Format) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(letter, name) for name in COLUMNS}
    row["sent_at"] = datetime.fromtimestamp(letter.sent_at, UTC)
    if form is Format.TABLE:
        more = len(letter.keys) - KEYS_SHOWN
        row["keys"] = [*letter.keys[:KEYS_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        row["why"] = letter.why or ("see its log" if letter.log else None)
    elif form is Format.JSON:
        row["log"] = letter.log
    return row


def _finish(moved: Moved, names: tuple[str, ...], form: Format) -> None:
    facts = {name: getattr(moved, name) for name in names}
    if form is Format.JSON:
        write_json(facts | {"missing": moved.missing})
    elif form is Format.CSV:
        write_rows([facts], names, form)
    else:
        write_facts(facts)
    for error in moved.errors[:10]:
        note(error)
    for missing in moved.missing:
        note(f"no queue has a message {missing}; perhaps somebody else holds it for the moment")
    if not moved.is_good:
        raise typer.Exit(1)
