"""jobs, attempts, artifacts, idempotency keys"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLE: dict[str, Any] = {
    f"{dialect}_{name}": value
    for dialect in ("mysql", "mariadb")
    for name, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}


# A step is history: it spells its types out, and does not follow shared/tables.py when that moves on.
def ascii_(length: int) -> sa.types.TypeEngine[str]:
    binary = mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
    return sa.String(length).with_variant(binary, "mysql", "mariadb")


def text_(length: int) -> sa.types.TypeEngine[str]:
    binary = mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return sa.String(length).with_variant(binary, "mysql", "mariadb")


def long_text() -> sa.types.TypeEngine[str]:
    binary = mysql.MEDIUMTEXT(charset="utf8mb4", collation="utf8mb4_bin")
    return sa.Text().with_variant(binary, "mysql", "mariadb")


def required(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def optional(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True)


def upgrade() -> None:
    op.create_table(
        "jobs",
        required("id", ascii_(36)),
        optional("batch_id", ascii_(36)),
        optional("retry_of", ascii_(36)),
        required("pipeline", ascii_(64)),
        optional("question", long_text()),
        required("lang", ascii_(2)),
        optional("age", sa.Integer()),
        optional("sex", ascii_(8)),
        optional("site", ascii_(32)),
        optional("client_metadata", sa.JSON()),
        required("answered", sa.Boolean()),
        required("external", sa.Boolean()),
        optional("filename", text_(255)),
        optional("media_type", ascii_(64)),
        optional("sha256", ascii_(64)),
        optional("size_bytes", sa.BigInteger()),
        optional("width", sa.Integer()),
        optional("height", sa.Integer()),
        required("status", ascii_(16)),
        required("stage", ascii_(16)),
        required("lane", ascii_(16)),
        required("version", sa.BigInteger()),
        required("attempt", sa.Integer()),
        required("failures", sa.Integer()),
        required("lost", sa.Integer()),
        optional("claim_id", ascii_(36)),
        optional("lease_until", sa.BigInteger()),
        optional("limit_at", sa.BigInteger()),
        required("not_before", sa.BigInteger()),
        required("due_at", sa.BigInteger()),
        required("dispatches", sa.Integer()),
        optional("deadline_at", sa.BigInteger()),
        optional("findings", sa.JSON()),
        optional("grades", sa.JSON()),
        optional("segments", sa.JSON()),
        optional("warnings", sa.JSON()),
        optional("model", sa.JSON()),
        optional("answer", sa.JSON()),
        optional("error_slug", ascii_(64)),
        optional("error_detail", long_text()),
        required("created_at", sa.BigInteger()),
        optional("started_at", sa.BigInteger()),
        optional("completed_at", sa.BigInteger()),
        optional("erased_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        **TABLE,
    )
    op.create_index("ix_jobs_queue", "jobs", ["status", "stage", "lane", "id"])
    op.create_index("ix_jobs_due", "jobs", ["status", "due_at"])
    op.create_index("ix_jobs_lease", "jobs", ["status", "lease_until"])
    op.create_index("ix_jobs_claim", "jobs", ["claim_id"])
    op.create_index("ix_jobs_batch", "jobs", ["batch_id", "status"])
    op.create_index("ix_jobs_deadline", "jobs", ["status", "deadline_at"])

    op.create_table(
        "attempts",
        required("job_id", ascii_(36)),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        required("stage", ascii_(16)),
        required("claim_id", ascii_(36)),
        required("worker", text_(128)),
        required("started_at", sa.BigInteger()),
        optional("ended_at", sa.BigInteger()),
        optional("outcome", ascii_(16)),
        optional("error", ascii_(64)),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_attempts_job_id"),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_attempts"),
        **TABLE,
    )
    op.create_table(
        "artifacts",
        required("job_id", ascii_(36)),
        required("name", ascii_(32)),
        required("media_type", ascii_(64)),
        required("sha256", ascii_(64)),
        required("size_bytes", sa.BigInteger()),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_artifacts_job_id"),
        sa.PrimaryKeyConstraint("job_id", "name", name="pk_artifacts"),
        **TABLE,
    )
    op.create_table(
        "idempotency",
        required("key_sha256", ascii_(64)),
        required("content_sha256", ascii_(64)),
        required("job_id", ascii_(36)),
        required("created_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_idempotency_job_id"),
        sa.PrimaryKeyConstraint("key_sha256", name="pk_idempotency"),
        **TABLE,
    )
    op.create_index("ix_idempotency_created", "idempotency", ["created_at"])
    op.create_index("ix_idempotency_job", "idempotency", ["job_id"])


def downgrade() -> None:
    for table in ("idempotency", "artifacts", "attempts", "jobs"):
        op.drop_table(table)
