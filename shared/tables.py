"""The rows: jobs, their attempts and artifacts, and the keys that make a submit safe to repeat."""

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
        Index("ix_jobs_due", "status", "due_at"),  # sweeper: what to dispatch
        Index("ix_jobs_lease", "status", "lease_until"),  # sweeper: who was lost
        Index("ix_jobs_claim", "claim_id"),
        Index("ix_jobs_batch", "batch_id", "status"),
        Index("ix_jobs_deadline", "status", "deadline_at"),
        TABLE,
    )

    id: Mapped[str] = mapped_column(Ascii(36), primary_key=True)
    batch_id: Mapped[str | None] = mapped_column(Ascii(36))
    retry_of: Mapped[str | None] = mapped_column(Ascii(36))

    # What was asked
    pipeline: Mapped[str] = mapped_column(Ascii(64))
    question: Mapped[str | None] = mapped_column(long_text())  # None: erased
    lang: Mapped[str] = mapped_column(Ascii(2))
    age: Mapped[int | None] = mapped_column(Integer())
    sex: Mapped[str | None] = mapped_column(Ascii(8))
    site: Mapped[str | None] = mapped_column(Ascii(32))
    client_metadata: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    answered: Mapped[bool]  # whether the answer stage follows
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
