"""One turn of the deployed backfills: walk, send what is due, remember how far. Changes with how a backfill proceeds.

A turn may end anywhere, and two may run at once: keys are sent before the cursor moves past them, so a page is sent
twice rather than not at all, and applying a key twice changes nothing. A pass that finds nothing left needs nobody's
word that the messages were handled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec

from bucketdex.engine.changes import Means
from bucketdex.engine.jobs import Job, JobChangedError, JobStore, SavedJob
from bucketdex.engine.lister import Lister, Page
from bucketdex.engine.walk import PAGE_KEYS
from bucketdex.errors import BucketdexError, CommitGaveUpError, SnapshotExpiredError, StorageError, TableNotFoundError
from bucketdex.storage import Listed

AHEAD_MAX: Final = 400  # messages that may wait: what indexers work off while a turn ends and the next one begins
POLL_S: Final = 2.0  # between two looks at what everybody waits for
PACED_S: Final = 10.0  # of a rate: the most that one page holds
SKEW_S: Final = 60.0  # by which the clocks of S3 and of a function may differ
PATIENCE_S: Final = 1_200.0  # hidden messages that outlast it are failing, and wait for another try
STALLED_MAX: Final = 4  # passes in a row that found no less left
# SQS may count a minute late, and an empty queue that isn't only costs another pass. So the first one comes soon, and
# those after passes that found no less left wait four times longer each: minutes in all before such a job has failed.
SETTLE_S: Final = 2.0
FAILURES_MAX: Final = 3  # in a row, before the job is left to the next turn

Step = Literal["worked", "waits", "over"]


class Depth(NamedTuple):
    """How many messages a queue holds: to be received, and received but not done. Both about right."""

    visible: int
    hidden: int


class PageQueue(Protocol):
    """Where pages of keys go, for the indexer to apply."""

    def send(self, job: str, table: str, due: Sequence[Listed]) -> None:
        """Sends the keys, in as many messages as it takes; raises when one of them wasn't accepted."""

    def depth(self) -> Depth:
        """What waits in the queue, of all jobs."""


class Turn:
    """Goes on with one job, a step at a time. `finish` makes of a job that found nothing left what it is then."""

    def __init__(
        self, means: Means, jobs: JobStore, queue: PageQueue, finish: Callable[[Job], Job], saved: SavedJob
    ) -> None:
        self._means, self._jobs, self._queue, self._finish, self._saved = means, jobs, queue, finish, saved
        self._pages: Iterator[Page] | None = None
        self._due_at = means.runtime.now()  # when the rate lets the next page go
        self._failures = 0

    @property
    def job(self) -> Job:
        """The job as it was last saved."""
        return self._saved.job

    def step(self) -> Step:
        """One page, or one look at what it waits for. `over`: the job has ended, or is somebody else's now.

        Cost: a conditional GET and a PUT of the job, a look at the queue, and what `Walk.pages` costs a page.
        """
        try:
            if self._jobs.load(self.job.table, self._saved) is not self._saved:
                return "over"
            step = self._after_pass() if self.job.walked else self._next_page()
            self._failures = 0
            return "over" if self.job.is_over else step
        except JobChangedError:
            return "over"
        except TableNotFoundError as error:
            return self._gone(error)
        except BucketdexError as error:
            return self._failed(error)

    def _next_page(self) -> Step:
        job = self.job
        depth = self._queue.depth()
        if self._means.runtime.now() < self._due_at or depth.visible + depth.hidden >= AHEAD_MAX:
            return "waits"
        if self._pages is None:
            self._pages = self._lister(job).pages(page_keys(job.rate))
        page = next(self._pages, None)
        if page is None:
            self._pages = None
            self._save(walked=True, waiting=sum(depth))
            return "worked"
        left = [listed for listed in page.due if listed.last_modified <= job.started_at + SKEW_S]
        self._send(job, page.due, left)
        self._save(
            cursor=page.cursor, listed=job.listed + page.listed, unchanged=job.unchanged + page.unchanged,
            due=job.due + len(page.due), left=job.left + len(left), sent=job.sent + len(page.due),
            sent_at=self._means.runtime.now() if page.due else job.sent_at, waiting=sum(depth),
        )  # fmt: skip
        return "worked"

    def _lister(self, job: Job) -> Lister:
        first = job.number == 1
        return Lister(
            self._means, job.target, prefix=job.prefix, after=job.cursor, force=job.force and first, again=not first,
            inventory=job.inventory if first else None,
        )  # fmt: skip

    def _send(self, job: Job, due: list[Listed], left: list[Listed]) -> None:
        """What was there before the job goes to its target; later uploads to the table by its name, as their events do,
        so that they aren't lost when the target takes its place.
        """
        if job.target == job.table:
            self._queue.send(job.id, job.table, due)
        else:
            young = set(due) - set(left)
            self._queue.send(job.id, job.target, left)
            self._queue.send(job.id, job.table, [listed for listed in due if listed in young])
        if job.rate is not None:
            self._due_at = max(self._means.runtime.now(), self._due_at) + len(due) / job.rate

    def _after_pass(self) -> Step:
        job, now = self.job, self._means.runtime.now()
        stays = job.target == job.table
        by_report = job.inventory is not None and job.number == 1  # which names objects that are gone
        found_all = job.left == 0 and not by_report
        following = job.next_pass(now)
        if not found_all and following.stalled >= STALLED_MAX:
            self._save(state="failed", error=f"{job.left} objects stay unindexed: see the dead letters, then resume it")
            return "worked"
        # What was uploaded meanwhile is in the queue. It should be in a successor before that takes the table's place.
        if not (found_all and (stays or job.due == 0)):
            depth = self._queue.depth()
            early = now < job.sent_at + SETTLE_S * 4**following.stalled
            if early or depth.visible or (depth.hidden and now < job.sent_at + PATIENCE_S):
                return "waits"
        if found_all or (by_report and stays):
            return self._end()
        self._saved = self._jobs.save(self._saved, following)
        return "worked"

    def _end(self) -> Step:
        finished = self._finish(self.job)
        if finished == self.job:
            return "waits"
        now = self._means.runtime.now()
        self._saved = self._jobs.save(self._saved, msgspec.structs.replace(finished, updated_at=now))
        return "worked"

    def _gone(self, error: TableNotFoundError) -> Step:
        """The target was dropped; or, a successor, given up, or put in its table's place by somebody else."""
        ended = msgspec.structs.replace(self.job, state="cancelled", error=str(error))
        if self.job.target != self.job.table:
            ended = self._finish(self.job)
        with suppress(JobChangedError):
            self._saved = self._jobs.save(self._saved, ended)
        return "over"

    def _failed(self, error: BucketdexError) -> Step:
        """Tries again, a few times; then the job is over where only a person can help, else left to the next turn."""
        self._pages = None
        self._failures += 1
        if self._failures < FAILURES_MAX:
            return "waits"
        passing = isinstance(error, StorageError | SnapshotExpiredError | CommitGaveUpError)
        said = f"{type(error).__name__}: {error}"
        with suppress(JobChangedError, StorageError):  # somebody else goes on, or the next turn says it
            self._save(error=said) if passing else self._save(error=said, state="failed")
        return "over"

    def _save(self, **changes: Any) -> None:
        kept = {"error": None, "updated_at": self._means.runtime.now()}
        self._saved = self._jobs.save(self._saved, msgspec.structs.replace(self.job, **(kept | changes)))


def continue_jobs(
    means: Means, jobs: JobStore, queue: PageQueue, finish: Callable[[Job], Job], in_time: Callable[[], bool]
) -> list[Job]:
    """Goes on with all running jobs, a page of each in turn, until they are over or time runs out; the jobs as it left
    them. One LIST and a GET a job where nothing is to do.
    """
    found = [saved for table in list(jobs.tables()) if (saved := jobs.load(table)) is not None]
    turns = [Turn(means, jobs, queue, finish, saved) for saved in found if not saved.job.is_over]
    going = turns
    while going and in_time():
        steps = [(turn, turn.step()) for turn in going]
        going = [turn for turn, step in steps if step != "over"]
        if going and all(step == "waits" for _, step in steps):
            means.runtime.sleep(POLL_S)
    return [turn.job for turn in turns]


def page_keys(rate: float | None) -> int | None:
    """How many keys a page holds at a rate: at most what may be sent in ten seconds. None: as many as a listing's."""
    return None if rate is None else max(1, min(PAGE_KEYS, int(rate * PACED_S)))
