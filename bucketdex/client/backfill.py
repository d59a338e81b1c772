"""A table's backfill as the deployment does it: starting it, looking at it, stopping it. Changes with what is told of
one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from bucketdex.client.context import Context
from bucketdex.client.stack import asking_aws, stack_outputs
from bucketdex.client.state import table_status
from bucketdex.engine import Backfilled, Job
from bucketdex.engine.estimate import MESSAGE_KEYS
from bucketdex.engine.jobs import require_rate
from bucketdex.errors import BackfillError, BucketdexError


class BackfillJob:
    """The backfill that a table's stack works off, in turns, whatever becomes of this process. One a table: a new one
    takes the place of the last.

    What it writes lies in the index bucket. `asleep` says why the stack's function couldn't be told of it at once; its
    schedule begins within 15 minutes then.
    """

    def __init__(self, context: Context, table: str) -> None:
        self._context, self._table = context, table
        self.asleep: str | None = None

    def start(
        self,
        prefix: str | None = None,
        *,
        rate: float | None = None,
        force: bool = False,
        inventory: str | None = None,
    ) -> Job:
        """Starts one; see `Table.backfill` for what its options mean and its objects cost.

        Uploads go on beside it: its messages have a queue and indexers of their own. It ends when a whole pass over the
        listing finds everything indexed that was there when it started. BackfillError while one runs or is paused,
        where no stack manages the table, and for a report that can be read from here and isn't one. Five requests, six
        with a report.
        """
        stack = self._stack()
        job = self._context.engine.start_backfill(
            self._table, prefix=prefix, rate=rate, force=force, inventory=inventory
        )
        self._wake(stack)
        return job

    def rebuild(self, *, rate: float | None = None) -> Job:
        """Has the table built anew from its objects, beside itself, and swapped in when it is whole; see
        `Table.rebuild`. One that is under way, such as for a changed field, goes on as it is, at its own rate, and is
        returned. BackfillError where it is paused: only `resume` takes that back.
        """
        require_rate(rate)
        stack = self._stack()
        self._context.engine.rebuild(self._table)
        job = self._context.engine.start_backfill(self._table, rate=rate, renew=False)
        if job.state == "paused":
            raise BackfillError(f"the backfill of {self._table} is paused: resume it, or cancel it first")
        self._wake(stack)
        return job

    def estimate(
        self,
        prefix: str | None = None,
        *,
        rate: float | None = None,
        force: bool = False,
        inventory: str | None = None,
        rebuild: bool = False,
        here: bool = False,
        progress: Callable[[Backfilled], None] | None = None,
    ) -> Backfilled:
        """What `start` would have to do, or with `rebuild` that: counted, with its requests and dollars estimated, by
        the deployment or (`here`) in this process. While a successor is built, it is that one's. Starts nothing.

        Lists the bucket from here, so it needs the data bucket: a LIST and a few GETs for each 1,000 keys.
        """
        _ = self._context.data
        return self._context.engine.estimate_backfill(
            self._table, prefix=prefix, rate=rate, force=force, inventory=inventory, rebuild=rebuild,
            deployed=not here, progress=progress,
        )  # fmt: skip

    def pause(self) -> Job:
        """Lets it rest. Nothing more is sent; what waits in the queue is still indexed."""
        return self._context.engine.jobs.pause(self._table)

    def resume(self) -> Job:
        """Lets a paused or failed one go on where it stopped."""
        job = self._context.engine.jobs.resume(self._table)
        self._wake(self._stack())
        return job

    def cancel(self) -> Job | None:
        """Ends it for good. What waits in the queue is still indexed.

        A rebuild is given up with it; None where there was only that, and no backfill. The successor that a changed
        definition asks for stays, and each upload is indexed twice: until `start` goes on with it, or a deployment of
        the old definition gives it up. BackfillError, with nothing changed, where another was started meanwhile.
        """
        return self._context.engine.cancel_backfill(self._table)

    def left_behind(self) -> str | None:
        """What to do about a successor of the table that the stack isn't building: no backfill of it runs or is paused,
        so each upload is indexed twice for good. None where there is no such thing. A GET, or three.
        """
        live, *successors = self._context.engine.manifests(self._table)
        if not successors:
            return None
        [successor] = successors
        named = f"{successor.table} is still to take the place of {self._table}, and each upload is indexed twice"
        if live.managed_by is None:
            return f"{named}: if no process builds it any more, bucketdex rebuild {self._table} goes on with it"
        saved = self._context.engine.jobs.load(self._table)
        if saved is not None and saved.job.target == successor.table and saved.job.state in ("running", "paused"):
            return None
        rebuild = successor.definition == live.definition
        end = "a cancel after that" if rebuild else "a deployment of the definition as it was"
        return (
            f"{named}, but the stack isn't building it: bucketdex backfill start {self._table} has it do so; "
            f"{end} gives it up"
        )

    def status(self) -> dict[str, Any] | None:
        """How far it is, or how it ended; None where there never was one. One GET, or three.

        `pass` and the counts beside it are of the pass that it is in: `listed`, `unchanged` and `due` objects, `left`
        of which were there before it started; `sent` is of all passes. `messages_waiting`: in the queue, of all tables,
        at `updated_at`. `objects_left`: about how many are still to be indexed, where that can be told. `rate`: objects
        sent a second, so far.
        """
        saved = self._context.engine.jobs.load(self._table)
        if saved is None:
            return None
        job = saved.job
        took = job.updated_at - job.started_at
        return {
            "table": job.table,
            "target": job.target,
            "state": job.state,
            "pass": job.number,
            "listed": job.listed,
            "unchanged": job.unchanged,
            "due": job.due,
            "left": job.left,
            "left_last_pass": job.left_last_pass,
            "sent": job.sent,
            "messages_waiting": job.waiting,
            "objects_left": self._objects_left(job),
            "rate": round(job.sent / took, 1) if took > 0 else None,
            "cursor": job.cursor,
            "started_at": datetime.fromtimestamp(job.started_at, UTC),
            "updated_at": datetime.fromtimestamp(job.updated_at, UTC),
            "error": job.error,
        }

    def _objects_left(self, job: Job) -> int | None:
        if job.state == "done":
            return 0
        waiting = job.waiting * MESSAGE_KEYS
        if job.walked or job.number > 1:
            return waiting
        if job.target == job.table:
            return None
        known: int = table_status(self._context, self._table)["objects"]
        return max(0, known - job.listed) + waiting

    @property
    def stack(self) -> str | None:
        """The stack that works it off; None where none manages the table. One GET."""
        return self._context.engine.load(self._table).manifest.managed_by

    def _stack(self) -> str:
        stack = self.stack
        if stack is None:
            raise BackfillError(f"no stack manages table {self._table!r}: use bucketdex backfill run, in this process")
        return stack

    def _wake(self, stack: str) -> None:
        try:
            outputs = stack_outputs(stack)
            if "BackfillerName" not in outputs:
                raise BucketdexError(f"stack {stack!r} has no output BackfillerName: deploy it again")
            with asking_aws("the backfiller could not be woken"):
                import boto3

                boto3.client("lambda").invoke(
                    FunctionName=outputs["BackfillerName"], InvocationType="Event", Payload=b"{}"
                )
            self.asleep = None
        except BucketdexError as error:
            self.asleep = str(error)
