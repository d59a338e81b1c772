"""Commands of backfills: indexing what was there before, in this process or by the deployment."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from bucketdex.cli.output import Format, note, write_result
from bucketdex.cli.progress import steps
from bucketdex.cli.repair import say_failed
from bucketdex.cli.session import FormatOption, IndexOption, TableArgument, session

if TYPE_CHECKING:
    from bucketdex.client.backfill import BackfillJob
    from bucketdex.engine import Backfilled

app = typer.Typer(help="Index the objects that were there before, or whose events were lost.", no_args_is_help=True)

ESTIMATES = ("reads_estimated", "writes_estimated", "dollars_estimated")
DEPLOYED_ESTIMATES = (*ESTIMATES[:2], "queue_requests_estimated", "dollars_estimated", "dollars_by_service")
PRICES = "about, at public prices of us-east-1"
HERE = f"the estimate is of S3's requests by this process, one pass with the compaction that falls due; {PRICES}"
DEPLOYED = (
    "the estimate is of all that the deployment does, until nothing is left to index: passes over the listing, "
    f"indexing, the compaction that falls due; S3, SQS, Lambda and its logs; {PRICES}"
)
DONE = ("applied", "rows", "rejects", "commits", "failures")

PrefixOption = Annotated[str | None, typer.Option("--prefix", metavar="PREFIX", help="Only the keys below it.")]
RateOption = Annotated[float | None, typer.Option("--rate", metavar="N", help="At most N objects a second.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Also what looks the same by ETag and time.")]
InventoryOption = Annotated[
    str | None,
    typer.Option(
        "--inventory",
        metavar="URL",
        help="A report of S3 Inventory in CSV, s3://.../manifest.json, instead of a listing.",
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only count, and estimate the requests and what they cost.")
]


def add_to(app: typer.Typer) -> None:
    """Register `rebuild`, which is a command of its own."""
    app.command()(rebuild)


@app.command()
def start(
    context: typer.Context,
    table: TableArgument,
    prefix: PrefixOption = None,
    rate: RateOption = None,
    force: ForceOption = False,
    inventory: InventoryOption = None,
    dry_run: DryRunOption = False,
    form: FormatOption = Format.TABLE,
    index: IndexOption = None,
) -> None:
    """Have the table's stack index them, whatever becomes of this terminal. Uploads don't wait behind it. A --dry-run
    lists the bucket from here and needs BUCKETDEX_DATA.
    """
    job = session(context).table(table, index).backfill_job()
    if dry_run:
        _estimate(
            table, form, partial(job.estimate, prefix, rate=rate, force=force, inventory=inventory), deployed=True
        )
        return
    job.start(prefix, rate=rate, force=force, inventory=inventory)
    _say_asleep(job.asleep)
    note(f"started; to see how far it is: bucketdex backfill status {shlex.quote(table)}")


@app.command()
def run(
    context: typer.Context,
    table: TableArgument,
    prefix: PrefixOption = None,
    rate: RateOption = None,
    start_after: Annotated[
        str | None, typer.Option("--start-after", metavar="KEY", help="Go on behind this key.")
    ] = None,
    force: ForceOption = False,
    inventory: InventoryOption = None,
    dry_run: DryRunOption = False,
    form: FormatOption = Format.TABLE,
    index: IndexOption = None,
) -> None:
    """Index them from here, in this process. May run at any time, and again; exits with 1 if objects failed. Needs the
    data bucket: BUCKETDEX_DATA.
    """
    source = session(context).table(table, index)
    if dry_run:
        counted = partial(
            source.backfill, prefix, rate=rate, start_after=start_after, force=force, inventory=inventory, dry_run=True
        )
        _estimate(table, form, counted, deployed=False)
        return
    done: list[Backfilled] = []
    with steps(f"listing {table}") as step:

        def progress(state: Backfilled) -> None:
            done[:] = [state]
            step(f"{state.listed:,} listed, {state.applied:,} of {state.due:,} applied")

        try:
            result = source.backfill(
                prefix, rate=rate, start_after=start_after, force=force, inventory=inventory, progress=progress
            )
        except BaseException:
            if done and done[0].last_key is not None:
                note(f"to go on from here: --start-after {shlex.quote(done[0].last_key)}")
            raise
    write_result(_facts(result, DONE), form)
    say_failed(result.failed, result.failures)


@app.command()
def status(
    context: typer.Context, table: TableArgument, form: FormatOption = Format.TABLE, index: IndexOption = None
) -> None:
    """Print how far the stack's backfill of a table is, or how the last one ended. Exits with 1 if it failed."""
    job = session(context).table(table, index).backfill_job()
    facts = job.status()
    if facts is None:
        note(f"table {table} has had no backfill")
    else:
        write_result(facts, form)
    say_left_behind(job)
    if facts is not None and facts["state"] == "failed":
        raise typer.Exit(1)


@app.command()
def pause(context: typer.Context, table: TableArgument, index: IndexOption = None) -> None:
    """Let it rest. Nothing more is sent to the queue; what waits there is still indexed."""
    session(context).table(table, index).backfill_job().pause()
    print(f"the backfill of {table} is paused")


@app.command()
def resume(context: typer.Context, table: TableArgument, index: IndexOption = None) -> None:
    """Let a paused or failed one go on where it stopped."""
    job = session(context).table(table, index).backfill_job()
    job.resume()
    _say_asleep(job.asleep)
    print(f"the backfill of {table} goes on")


@app.command()
def cancel(context: typer.Context, table: TableArgument, index: IndexOption = None) -> None:
    """End it for good; a rebuild is given up with it. What waits in the queue is still indexed. What a changed
    definition asks for stays to be built, and uploads are indexed twice until then: this says so, and what to do.
    """
    job = session(context).table(table, index).backfill_job()
    job.cancel()
    print(f"the backfill of {table} is cancelled")
    say_left_behind(job)


def rebuild(
    context: typer.Context,
    table: TableArgument,
    here: Annotated[
        bool, typer.Option("--here", help="In this process, also where a stack manages the table.")
    ] = False,
    rate: RateOption = None,
    dry_run: DryRunOption = False,
    form: FormatOption = Format.TABLE,
    index: IndexOption = None,
) -> None:
    """Build a table's index anew from its objects, beside the live one, then swap it in. Queries go on meanwhile. A
    table of a stack is rebuilt by that (see backfill status), any other from here, which needs BUCKETDEX_DATA, as a
    --dry-run does. What is under way already goes on; where that is paused, backfill resume it.
    """
    source = session(context).table(table, index)
    job = source.backfill_job()
    here = here or job.stack is None
    if dry_run:
        _estimate(table, form, partial(job.estimate, rate=rate, rebuild=True, here=here), deployed=not here)
        return
    if not here:
        if job.rebuild(rate=rate).rate != rate:
            note("it is under way already, and keeps its rate")
        _say_asleep(job.asleep)
        note(f"started; to see how far it is: bucketdex backfill status {shlex.quote(table)}")
        return
    with steps(f"rebuilding {table}") as step:
        source.rebuild(rate=rate, progress=lambda state: step(f"{state.listed:,} listed, {state.applied:,} applied"))
    print(f"{table} is rebuilt")


def _estimate(table: str, form: Format, counted: Callable[..., Backfilled], *, deployed: bool) -> None:
    with steps(f"listing {table}") as step:
        result = counted(progress=lambda state: step(f"{state.listed:,} listed, {state.due:,} due"))
    result.dollars_estimated = round(result.dollars_estimated, 6)
    result.dollars_by_service = {name: round(dollars, 6) for name, dollars in result.dollars_by_service.items()}
    write_result(_facts(result, DEPLOYED_ESTIMATES if deployed else ESTIMATES), form)
    note(DEPLOYED if deployed else HERE)


def _facts(result: Backfilled, names: tuple[str, ...]) -> dict[str, object]:
    return {name: getattr(result, name) for name in ("listed", "unchanged", "due", "due_bytes", *names)}


def say_left_behind(job: BackfillJob) -> None:
    """On standard error, where a table's successor waits for nobody."""
    left = job.left_behind()
    if left is not None:
        note(left)


def _say_asleep(reason: str | None) -> None:
    if reason is not None:
        note(f"it begins within 15 minutes, by its schedule; it couldn't be told at once: {reason}")
