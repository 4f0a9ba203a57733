"""owners of jobs, keys, sessions"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"
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


def required(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def optional(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True)


def upgrade() -> None:
    # With a default of the database's own, since processes of the version before insert without an owner.
    op.add_column("jobs", sa.Column("owner", ascii_(64), nullable=False, server_default=""))
    op.create_index("ix_jobs_owner", "jobs", ["owner", "id"])

    op.create_table(
        "api_keys",
        required("id", ascii_(36)),
        required("sha256", ascii_(64)),
        required("owner", ascii_(64)),
        required("scopes", ascii_(64)),
        optional("note", text_(255)),
        optional("per_minute", sa.Integer()),
        required("created_at", sa.BigInteger()),
        optional("expires_at", sa.BigInteger()),
        optional("revoked_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        **TABLE,
    )
    op.create_index("uq_api_keys_sha256", "api_keys", ["sha256"], unique=True)
    op.create_table(
        "sessions",
        required("sha256", ascii_(64)),
        required("key_id", ascii_(36)),
        required("created_at", sa.BigInteger()),
        required("expires_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name="fk_sessions_key_id"),
        sa.PrimaryKeyConstraint("sha256", name="pk_sessions"),
        **TABLE,
    )
    op.create_index("ix_sessions_expires", "sessions", ["expires_at"])
    op.create_index("ix_sessions_key_id", "sessions", ["key_id"])


def downgrade() -> None:
    op.drop_table("sessions")
    op.drop_table("api_keys")
    op.drop_index("ix_jobs_owner", "jobs")
    op.drop_column("jobs", "owner")
