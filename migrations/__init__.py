"""The database's shape, step by step: `upgrade(url)` takes a database of any age to the newest one."""

from migrations.run import downgrade, upgrade

__all__ = ["downgrade", "upgrade"]
