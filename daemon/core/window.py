"""The front of one lane's queue."""

from bisect import bisect_left

from .job import Job

Order = tuple[int, int]


class Window:
    """The front of one lane. With `more`, the store has rows behind `tail` (None: nothing is loaded yet).

    While `loading`, rows behind `asked` are on their way; where `tail` has moved since, they do not fit.
    """

    __slots__ = ("asked", "loading", "more", "rows", "tail")

    def __init__(self, more: bool) -> None:
        self.rows: list[Job] = []
        self.more = more
        self.tail: Order | None = None
        self.asked: Order | None = None
        self.loading = False

    def cut(self, limit: int) -> list[Job]:
        """Take out the rows beyond `limit`; the store has them."""
        dropped = self.rows[limit:]
        if dropped:
            del self.rows[limit:]
            self.more, self.tail = True, self.rows[-1].order
        return dropped

    def update(self, job: Job) -> None:
        """The same job with other facts, if it is here."""
        if (index := self.index(job)) is not None:
            self.rows[index] = job

    def index(self, job: Job) -> int | None:
        """Where the job is, or None."""
        index = bisect_left(self.rows, job.order, key=order_of)
        return index if index < len(self.rows) and self.rows[index].id == job.id else None


def order_of(job: Job) -> Order:
    return job.order
