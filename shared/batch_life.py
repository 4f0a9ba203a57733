"""The life of a batch, in one table: which event moves which status where."""

from enum import StrEnum


class BatchStatus(StrEnum):
    RECEIVING = (
        "receiving"  # its archive waits for, or is in the hands of, an archive worker; jobs run already
    )
    RUNNING = "running"  # every entry is a job or rejected; jobs are unfinished
    COMPLETED = "completed"  # every job has ended, whichever way
    CANCELED = "canceled"  # by whoever submitted it; its last jobs may end a moment later
    FAILED = "failed"  # the archive could not be read to its end; what was accepted has ended


class BatchEvent(StrEnum):
    READ = "read"  # the archive's end, or the place where it is broken, is reached
    COMPLETE = "complete"  # the last job has ended
    FAIL = "fail"  # the last job has ended, and the archive was broken
    CANCEL = "cancel"


BATCH_TRANSITIONS: dict[tuple[BatchStatus, BatchEvent], BatchStatus] = {
    (BatchStatus.RECEIVING, BatchEvent.READ): BatchStatus.RUNNING,
    (BatchStatus.RECEIVING, BatchEvent.CANCEL): BatchStatus.CANCELED,
    (BatchStatus.RUNNING, BatchEvent.COMPLETE): BatchStatus.COMPLETED,
    (BatchStatus.RUNNING, BatchEvent.FAIL): BatchStatus.FAILED,
    (BatchStatus.RUNNING, BatchEvent.CANCEL): BatchStatus.CANCELED,
}

BATCH_TERMINAL = frozenset({BatchStatus.COMPLETED, BatchStatus.CANCELED, BatchStatus.FAILED})


def batch_sources(event: BatchEvent) -> tuple[BatchStatus, ...]:
    """The statuses that an event may find a batch in: the WHERE of its conditional UPDATE."""
    return tuple(status for status, known in BATCH_TRANSITIONS if known is event)


def batch_target(event: BatchEvent) -> BatchStatus:
    """Where an event leads; every event of the table leads to one status only."""
    return next(status for (_, known), status in BATCH_TRANSITIONS.items() if known is event)
