"""The rows: jobs, their attempts, artifacts and reviews, batches, uploads, texts, keys to repeat a submit, keys of people."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Dialect, ForeignKey, Index, Integer, MetaData, String, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator, TypeEngine


class Ascii(TypeDecorator[str]):
    """Ids, hashes and names of ours; binary, since MySQL's default would merge `Key-A` and `key-a`.

    Other text is escaped on its way in: looked for, it finds nothing, where MariaDB would fail with error 1267.
    """

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        self.length = length
        super().__init__(length)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            return mysql.VARCHAR(self.length, charset="ascii", collation="ascii_bin")
        return String(self.length)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or value.isascii():
            return value
        return value.encode("ascii", "backslashreplace").decode()


def text_(length: int) -> TypeEngine[str]:
    """Short text of people's."""
    return String(length).with_variant(
        mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
    )


def long_text() -> TypeEngine[str]:
    return Text().with_variant(
        mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
    )


MYSQL = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
MARIADB = {name.replace("mysql", "mariadb"): value for name, value in MYSQL.items()}
TABLE = MYSQL | MARIADB


ENTRY_NAME_LIMIT = 1024  # characters of an entry's path


class Row(DeclarativeBase):
    """Times are microseconds since 1970 UTC, by the database's clock."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {int: BigInteger(), dict[str, Any]: JSON(none_as_null=True)}


class JobRow(Row):
    """One image, one pipeline, one question."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_queue", "status", "stage", "lane", "id"),  # position in the queue
        Index("ix_jobs_due", "lane", "status", "due_at"),  # sweeper: what to dispatch
        Index("ix_jobs_lease", "status", "lease_until"),  # sweeper: who was lost
        Index("ix_jobs_claim", "claim_id"),
        # What a batch has in line, and how many of its jobs stand where
        Index("ix_jobs_batch", "batch_id", "status", "stage", "pipeline", "due_at", "id"),
        # The archive's order; and an archive that is read again after a crash can double nothing
        Index("uq_jobs_entry", "batch_id", "entry", unique=True),
        Index("ix_jobs_deadline", "status", "deadline_at"),
        Index("ix_jobs_owner", "owner", "id"),  # an owner's list, newest first
        Index(
            "ix_jobs_custom", "owner", "custom_id", "id"
        ),  # what a client's own id names, the newest of them
        Index("ix_jobs_kept", "erased_at", "completed_at"),  # retention: what to erase
        Index("uq_jobs_turn", "message_of", "turn", unique=True),  # of two messages sent at once one is taken
        TABLE,
    )

    id: Mapped[str] = mapped_column(Ascii(36), primary_key=True)
    owner: Mapped[str] = mapped_column(Ascii(64), default="", server_default="")  # "": made without a key
    batch_id: Mapped[str | None] = mapped_column(Ascii(36))
    entry: Mapped[int | None] = mapped_column(Integer())  # its number in the archive
    entry_name: Mapped[str | None] = mapped_column(text_(ENTRY_NAME_LIMIT))  # its whole path there
    custom_id: Mapped[str | None] = mapped_column(text_(255))  # the client's own
    true_label: Mapped[str | None] = mapped_column(Ascii(64))  # what the manifest knows it to be
    retry_of: Mapped[str | None] = mapped_column(Ascii(36))
    message_of: Mapped[str | None] = mapped_column(Ascii(36))  # the job that this one asks about again
    turn: Mapped[int | None] = mapped_column(Integer())  # its number among that job's messages, from 1

    # What was asked
    pipeline: Mapped[str] = mapped_column(Ascii(64))
    question: Mapped[str | None] = mapped_column(long_text())  # None: erased
    lang: Mapped[str] = mapped_column(Ascii(2))
    age: Mapped[int | None] = mapped_column(Integer())
    sex: Mapped[str | None] = mapped_column(Ascii(8))
    site: Mapped[str | None] = mapped_column(Ascii(32))
    client_metadata: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    answered: Mapped[bool]  # whether the answer stage follows
    explain: Mapped[str | None] = mapped_column(Ascii(8))  # low, medium or high; None: not asked for
    frame: Mapped[int | None] = mapped_column(Integer())  # of a multi-frame picture, from 1; None: the first
    external: Mapped[bool]  # False: no language model outside the house may see it
    filename: Mapped[str | None] = mapped_column(text_(255))
    media_type: Mapped[str | None] = mapped_column(Ascii(64))
    sha256: Mapped[str | None] = mapped_column(Ascii(64))  # of the bytes as they were sent
    size_bytes: Mapped[int | None]
    width: Mapped[int | None] = mapped_column(Integer())
    height: Mapped[int | None] = mapped_column(Integer())

    # Where it stands; moved by shared/jobs.py and by nobody else
    status: Mapped[str] = mapped_column(Ascii(16))
    stage: Mapped[str] = mapped_column(Ascii(16))
    lane: Mapped[str] = mapped_column(Ascii(16))
    version: Mapped[int] = mapped_column(default=1)  # the ETag
    attempt: Mapped[int] = mapped_column(Integer(), default=0)  # claims so far, over all stages
    failures: Mapped[int] = mapped_column(Integer(), default=0)  # RETRY and LOSE within this stage
    lost: Mapped[int] = mapped_column(Integer(), default=0)  # LOSE within this stage
    claim_id: Mapped[str | None] = mapped_column(Ascii(36))
    lease_until: Mapped[int | None]
    limit_at: Mapped[int | None]  # heartbeats never extend the lease past this
    not_before: Mapped[int]  # no claim before this
    due_at: Mapped[int]  # while queued: when the sweeper dispatches it (again), in case a message was lost
    dispatches: Mapped[int] = mapped_column(Integer(), default=0)  # by the sweeper, within this wait
    deadline_at: Mapped[int | None]

    # What was found
    findings: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    grades: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    segments: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    warnings: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    model: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    answer: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    error_slug: Mapped[str | None] = mapped_column(Ascii(64))
    error_detail: Mapped[str | None] = mapped_column(long_text())

    created_at: Mapped[int]
    started_at: Mapped[int | None]  # the first claim
    completed_at: Mapped[int | None]
    erased_at: Mapped[int | None]


class BatchRow(Row):
    """Jobs that were submitted together. The archive lies in storage under `<batch id>/archive`."""

    __tablename__ = "batches"
    __table_args__ = (
        Index("ix_batches_status", "status", "completed_at"),
        Index("ix_batches_due", "status", "due_at"),
        Index("ix_batches_owner", "owner", "id"),
        Index("ix_batches_kept", "erased_at", "completed_at"),
        Index("uq_batches_key", "key_sha256", unique=True),
        TABLE,
    )

    id: Mapped[str] = mapped_column(Ascii(36), primary_key=True)
    owner: Mapped[str] = mapped_column(Ascii(64), default="")  # "": made without a key
    status: Mapped[str] = mapped_column(Ascii(16))
    version: Mapped[int] = mapped_column(default=1)  # the ETag

    # What was sent
    filename: Mapped[str | None] = mapped_column(text_(255))
    media_type: Mapped[str | None] = mapped_column(Ascii(64))  # None: a rerun has no archive
    sha256: Mapped[str | None] = mapped_column(Ascii(64))  # None until it is known
    size_bytes: Mapped[int | None]
    defaults: Mapped[dict[str, Any]]  # a job's fields as they were given, as text
    rerun_of: Mapped[str | None] = mapped_column(Ascii(36))
    rerun_only: Mapped[str | None] = mapped_column(Ascii(8))  # failed or all
    key_sha256: Mapped[str | None] = mapped_column(Ascii(64))  # of the Idempotency-Key, for 24 hours
    content_sha256: Mapped[str | None] = mapped_column(Ascii(64))

    # How far the archive worker is; moved by shared/batches.py and by nobody else
    claim_id: Mapped[str | None] = mapped_column(Ascii(36))
    lease_until: Mapped[int | None]
    due_at: Mapped[int]  # while receiving: when the sweeper dispatches it (again)
    failures: Mapped[int] = mapped_column(Integer(), default=0)  # lost claims since the last checkpoint
    entry: Mapped[int] = mapped_column(Integer(), default=0)  # the checkpoint: the first entry not dealt with
    entries: Mapped[int | None] = mapped_column(
        Integer()
    )  # that there are; None until the first pass is over
    accepted: Mapped[int] = mapped_column(Integer(), default=0)  # entries that became jobs
    rejected: Mapped[int] = mapped_column(Integer(), default=0)  # entries that did not
    error_slug: Mapped[str | None] = mapped_column(Ascii(64))
    error_detail: Mapped[str | None] = mapped_column(long_text())

    created_at: Mapped[int]
    read_at: Mapped[int | None]  # the archive's end was reached, or where it is broken
    completed_at: Mapped[int | None]  # its last job ended; with status canceled, that may be a moment later
    erased_at: Mapped[int | None]


class RejectedRow(Row):
    """An entry of an archive that became no job, with its problem."""

    __tablename__ = "rejected"
    __table_args__ = (TABLE,)

    batch_id: Mapped[str] = mapped_column(Ascii(36), ForeignKey("batches.id"), primary_key=True)
    entry: Mapped[int] = mapped_column(Integer(), primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(text_(ENTRY_NAME_LIMIT))  # what cannot be shown is escaped
    slug: Mapped[str] = mapped_column(Ascii(64))
    detail: Mapped[str] = mapped_column(long_text())
    errors: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))  # [{"detail", "pointer"}] of fields


class WindowRow(Row):
    """A queue of bulk messages; whoever fills it up holds its row, so that two never fill it at once."""

    __tablename__ = "windows"
    __table_args__ = (TABLE,)

    queue: Mapped[str] = mapped_column(Ascii(96), primary_key=True)
    filled_at: Mapped[int]
    turns: Mapped[dict[str, Any]]  # owner to the batch whose turn was last; the last owner comes last


class UploadRow(Row):
    """An archive that arrives in pieces; the bytes so far lie in storage under `<id>/archive`."""

    __tablename__ = "uploads"
    __table_args__ = (Index("ix_uploads_expires", "expires_at"), TABLE)

    id: Mapped[str] = mapped_column(Ascii(36), primary_key=True)  # becomes the batch's
    owner: Mapped[str] = mapped_column(Ascii(64), default="")
    length: Mapped[int | None]  # in all; None: deferred
    filename: Mapped[str | None] = mapped_column(text_(255))
    client_metadata: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    token: Mapped[str | None] = mapped_column(Ascii(36))  # whose request writes it now
    locked_until: Mapped[int | None]
    created_at: Mapped[int]
    expires_at: Mapped[int]


class PauseRow(Row):
    """Jobs of this pipeline and lane wait; `all` stands for each. Written by shared/pauses.py."""

    __tablename__ = "pauses"
    __table_args__ = (TABLE,)

    pipeline: Mapped[str] = mapped_column(Ascii(64), primary_key=True)
    lane: Mapped[str] = mapped_column(Ascii(16), primary_key=True)
    note: Mapped[str | None] = mapped_column(text_(255))  # for people: why
    created_at: Mapped[int]


class AttemptRow(Row):
    """One try at one stage of one job."""

    __tablename__ = "attempts"
    __table_args__ = (TABLE,)

    job_id: Mapped[str] = mapped_column(Ascii(36), ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer(), primary_key=True, autoincrement=False)
    stage: Mapped[str] = mapped_column(Ascii(16))
    claim_id: Mapped[str] = mapped_column(Ascii(36))
    worker: Mapped[str] = mapped_column(text_(128))
    started_at: Mapped[int]
    ended_at: Mapped[int | None]
    outcome: Mapped[str | None] = mapped_column(Ascii(16))  # the event that ended it
    error: Mapped[str | None] = mapped_column(Ascii(64))  # its slug


class ArtifactRow(Row):
    """A stored output, or the image itself; the bytes lie in storage under job id and name."""

    __tablename__ = "artifacts"
    __table_args__ = (TABLE,)

    job_id: Mapped[str] = mapped_column(Ascii(36), ForeignKey("jobs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(Ascii(32), primary_key=True)
    media_type: Mapped[str] = mapped_column(Ascii(64))
    sha256: Mapped[str] = mapped_column(Ascii(64))
    size_bytes: Mapped[int]


class ReviewRow(Row):
    """A clinician's word on what was found in a job."""

    __tablename__ = "reviews"
    __table_args__ = (
        Index("ix_reviews_job", "job_id", "id"),
        Index("ix_reviews_owner", "owner", "id"),  # what agreement is counted from
        TABLE,
    )

    id: Mapped[str] = mapped_column(Ascii(36), primary_key=True)
    job_id: Mapped[str] = mapped_column(Ascii(36), ForeignKey("jobs.id"))
    owner: Mapped[str] = mapped_column(Ascii(64))  # whose word it is, and the job; "": no key is asked
    verdict: Mapped[str] = mapped_column(Ascii(8))
    label: Mapped[str | None] = mapped_column(Ascii(64))  # what it is instead
    note: Mapped[str | None] = mapped_column(long_text())
    created_at: Mapped[int]


class TextRow(Row):
    """A text that an operator added for answers to rest on, cut into passages."""

    __tablename__ = "texts"
    __table_args__ = (Index("uq_texts_key", "key_sha256", unique=True), TABLE)

    id: Mapped[str] = mapped_column(Ascii(36), primary_key=True)
    key_sha256: Mapped[str] = mapped_column(
        Ascii(64)
    )  # of title, source and language: what an edition replaces
    sha256: Mapped[str] = mapped_column(Ascii(64))  # of the file
    file: Mapped[str] = mapped_column(text_(255))
    title: Mapped[str] = mapped_column(text_(200))
    source: Mapped[str] = mapped_column(text_(200))
    url: Mapped[str | None] = mapped_column(Ascii(2000))
    date: Mapped[str] = mapped_column(Ascii(10))
    lang: Mapped[str] = mapped_column(Ascii(2))
    passages: Mapped[Any] = mapped_column(JSON(none_as_null=True))  # texts, in the file's order
    added_at: Mapped[int]


class UsageRow(Row):
    """What one language model took for one owner in one month. Written by shared/usage.py."""

    __tablename__ = "usage"
    __table_args__ = (TABLE,)

    owner: Mapped[str] = mapped_column(Ascii(64), primary_key=True)
    month: Mapped[str] = mapped_column(Ascii(7), primary_key=True)  # in UTC, such as 2026-11
    model: Mapped[str] = mapped_column(text_(128), primary_key=True)
    calls: Mapped[int]
    input_tokens: Mapped[int]
    output_tokens: Mapped[int]


class IdempotencyRow(Row):
    """A submit that may be repeated for 24 hours."""

    __tablename__ = "idempotency"
    __table_args__ = (
        Index("ix_idempotency_created", "created_at"),
        Index("ix_idempotency_job", "job_id"),  # SQLite, unlike MySQL, makes none for a foreign key
        TABLE,
    )

    key_sha256: Mapped[str] = mapped_column(Ascii(64), primary_key=True)
    content_sha256: Mapped[str] = mapped_column(Ascii(64))
    job_id: Mapped[str] = mapped_column(Ascii(36), ForeignKey("jobs.id"))
    created_at: Mapped[int]


class KeyRow(Row):
    """What somebody may do here, and whose jobs he sees; of the key itself only the hash is known."""

    __tablename__ = "api_keys"
    __table_args__ = (Index("uq_api_keys_sha256", "sha256", unique=True), TABLE)

    id: Mapped[str] = mapped_column(Ascii(36), primary_key=True)
    sha256: Mapped[str] = mapped_column(Ascii(64))
    owner: Mapped[str] = mapped_column(Ascii(64))
    scopes: Mapped[str] = mapped_column(Ascii(64))  # separated by spaces
    note: Mapped[str | None] = mapped_column(text_(255))  # for people: what it is for
    per_minute: Mapped[int | None] = mapped_column(Integer())  # requests; None: the setting's
    created_at: Mapped[int]
    expires_at: Mapped[int | None]
    revoked_at: Mapped[int | None]


class SessionRow(Row):
    """A browser that was signed in with a key, and may do what the key may for as long as the key is good."""

    __tablename__ = "sessions"
    __table_args__ = (Index("ix_sessions_expires", "expires_at"), TABLE)

    sha256: Mapped[str] = mapped_column(Ascii(64), primary_key=True)  # of the cookie's value
    key_id: Mapped[str] = mapped_column(Ascii(36), ForeignKey("api_keys.id"), index=True)
    created_at: Mapped[int]
    expires_at: Mapped[int]


class WebhookRow(Row):
    """Who wants to hear of a job. Written by shared/webhooks.py, and by the submit that names it."""

    __tablename__ = "webhooks"
    __table_args__ = (Index("ix_webhooks_open", "closed_at", "job_id"), TABLE)

    job_id: Mapped[str] = mapped_column(Ascii(36), ForeignKey("jobs.id"), primary_key=True)
    url: Mapped[str] = mapped_column(Ascii(2000))
    stages: Mapped[bool]  # whether it also wants to hear of each stage's end
    seen: Mapped[int] = mapped_column(Integer(), default=0)  # the last attempt that was told of
    closed_at: Mapped[int | None]  # the job's end was told of


class DeliveryRow(Row):
    """One message to a webhook, and when it is tried next."""

    __tablename__ = "deliveries"
    __table_args__ = (
        Index("ix_deliveries_due", "status", "due_at"),
        Index("ix_deliveries_job", "job_id", "id"),
        TABLE,
    )

    id: Mapped[str] = mapped_column(Ascii(36), primary_key=True)  # the webhook-id
    job_id: Mapped[str] = mapped_column(Ascii(36), ForeignKey("jobs.id"))
    event: Mapped[str] = mapped_column(Ascii(16))  # completed or stage
    status: Mapped[str] = mapped_column(Ascii(16))  # waiting, delivered or failed
    tries: Mapped[int] = mapped_column(Integer())
    due_at: Mapped[int]  # while waiting: when anybody may try (again)
    created_at: Mapped[int]
    ended_at: Mapped[int | None]


class DeliveryTryRow(Row):
    """How one try of one delivery went."""

    __tablename__ = "delivery_tries"
    __table_args__ = (TABLE,)

    delivery_id: Mapped[str] = mapped_column(Ascii(36), ForeignKey("deliveries.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer(), primary_key=True, autoincrement=False)
    at: Mapped[int]
    took_us: Mapped[int]
    status: Mapped[int | None] = mapped_column(Integer())  # the receiver's, if it answered
    error: Mapped[str | None] = mapped_column(Ascii(255))  # why not, in words of ours


class AuditRow(Row):
    """Somebody did something to a job or batch. Only ever added; shared/audit.py writes `block` once."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("uq_audit_once", "once", unique=True),
        Index("ix_audit_block", "block", "id"),
        Index("ix_audit_subject", "subject", "id"),
        TABLE,
    )

    id: Mapped[str] = mapped_column(Ascii(36), primary_key=True)
    at: Mapped[int]
    actor: Mapped[str] = mapped_column(Ascii(64))  # a key's id, or a part of MedQ; "": nobody known
    owner: Mapped[str] = mapped_column(Ascii(64))  # whose the subject is
    action: Mapped[str] = mapped_column(Ascii(16))  # submit, read, review, erase, ...
    subject: Mapped[str] = mapped_column(Ascii(36))  # a job or a batch
    once: Mapped[str | None] = mapped_column(Ascii(64))  # of reads: actor, subject and hour, hashed
    block: Mapped[int | None]  # None: not yet sealed


class AuditBlockRow(Row):
    """Up to a thousand rows of the audit log, sealed: `sha256` is of them and of the block before."""

    __tablename__ = "audit_blocks"
    __table_args__ = (TABLE,)

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    previous: Mapped[str] = mapped_column(Ascii(64))
    sha256: Mapped[str] = mapped_column(Ascii(64))
    entries: Mapped[int] = mapped_column(Integer())
    made_at: Mapped[int]
