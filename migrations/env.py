"""Alembic's entry: runs the steps on the connection that `migrations.run` hands over, or on the settings'."""

from alembic import context
from sqlalchemy import Connection, text

from shared.database import connect
from shared.settings import Settings
from shared.tables import Row


def migrate(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        # SQLite can undo half a migration, but only inside a transaction that was begun by hand.
        connection.execute(text("BEGIN IMMEDIATE"))
    context.configure(
        connection=connection,
        target_metadata=Row.metadata,
        compare_type=True,
        transactional_ddl=connection.dialect.name == "sqlite",
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    database = connect(Settings.from_env().sqlalchemy_url, pool_size=1)
    with database.engine.connect() as opened:
        migrate(opened)
    database.close()
