"""Backfills that a deployment starts: when they begin, and waking the backfiller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bucketdex.engine.jobs import Job, JobStore
from functions.sqs import only_logged

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient


class Backfiller:
    """The function that works off backfills. A schedule wakes it as well, so a failing call is logged and fails
    nothing.
    """

    def __init__(self, client: LambdaClient, name: str) -> None:
        self._client, self._name = client, name

    def wake(self) -> None:
        """Has it begin a turn, and doesn't wait for it. One request."""
        with only_logged("the backfiller was not woken"):
            self._client.invoke(FunctionName=self._name, InvocationType="Event", Payload=b"{}")


def put_off(jobs: JobStore, table: str, until: float) -> None:
    """Makes the table's backfill begin anew at a time to come, in seconds since the epoch; it is paused until then, and
    whoever resumes it has it begin before. A GET and a PUT.
    """

    def later(job: Job) -> Job:
        return Job(
            id=job.id, table=job.table, target=job.target, source=job.source, state="paused", started_at=until,
            updated_at=until,
        )  # fmt: skip

    jobs.change(table, later)


def resume_due(jobs: JobStore, now: float) -> None:
    """Lets those begin that were put off until now, and weren't touched since. One LIST, and a GET a job."""
    for table in list(jobs.tables()):
        with only_logged("a backfill that is due was not resumed"):
            saved = jobs.load(table)
            if saved and saved.job.state == "paused" and saved.job.updated_at < saved.job.started_at <= now:
                jobs.resume(table)
