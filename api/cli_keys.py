"""`medq key`: makes, lists and revokes keys. The one command that talks to the database, not to a server."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from api.console import BAD_USAGE, FAILED, AsJson, out, print_json, say, stop
from api.render import plain

if TYPE_CHECKING:
    from shared.database import Database
    from shared.tables import KeyRow

DAY_S = 24 * 3600

app = typer.Typer(
    help="Make, list and revoke keys. Works on the database that MEDQ_DATABASE_URL or MEDQ_DATA_DIR names.",
    no_args_is_help=True,
)


@app.command()
def create(
    owner: Annotated[str, typer.Argument(help="Whose jobs the key makes and sees, such as a lab's name.")],
    scope: Annotated[list[str] | None, typer.Option(help="submit, read, review, admin; repeatable.")] = None,
    note: Annotated[str | None, typer.Option(help="What the key is for.")] = None,
    per_minute: Annotated[int | None, typer.Option(min=1, help="Requests a minute.")] = None,
    days: Annotated[float | None, typer.Option(min=0.001, help="Days until it expires.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and show it once. Without --scope it may submit and read."""
    from shared import keys

    with database() as db:
        try:
            key_id, token = keys.create(
                db,
                owner,
                scope or ["submit", "read"],
                note=note,
                per_minute=per_minute,
                expires_in_s=None if days is None else days * DAY_S,
            )
        except ValueError as error:
            stop(f"No key was made: {error}.", BAD_USAGE)
    if as_json:
        print_json({"id": key_id, "owner": owner, "key": token})
        return
    typer.echo(token)
    say(f"Key {key_id} of {owner}. It is shown here only; MedQ keeps its hash.")


@app.command("list")
def list_keys(
    owner: Annotated[str | None, typer.Option(help="Only this owner's.")] = None, as_json: AsJson = False
) -> None:
    """List keys, the oldest first."""
    from shared import keys

    with database() as db:
        found = [_shown(row) for row in keys.every(db, owner)]
    if as_json:
        for one in found:
            print_json(one)
        return
    table = Table("id", "owner", "scopes", "a minute", "made", "expires", "revoked", "note", box=None)
    for one in found:
        table.add_row(*(plain(str(value)) if value is not None else "" for value in one.values()))
    out().print(table if found else "No keys yet: medq key create OWNER")


@app.command()
def revoke(id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, not the key.")]) -> None:
    """End a key and the sessions made with it, within five seconds everywhere."""
    from shared import keys
    from shared.errors import NotFound

    with database() as db:
        try:
            first = keys.revoke(db, id)
        except NotFound as error:
            stop(error.detail, FAILED)
    say(f"{plain(id)} is revoked." if first else f"{plain(id)} was revoked before.")


@app.command()
def secret(owner: Annotated[str, typer.Argument(help="Whose; left out: that of open mode.")] = "") -> None:
    """Show the secret with which an owner's receivers verify webhooks. Needs MEDQ_WEBHOOK_SECRET."""
    from shared.errors import SettingsError
    from shared.settings import Settings
    from shared.webhooks import secret_of

    try:
        server_secret = Settings.from_env().webhook_secret
    except SettingsError as error:
        stop(f"{error.title}: {error.detail}", BAD_USAGE)
    if not server_secret:
        stop("MEDQ_WEBHOOK_SECRET is not set, so that no webhooks are sent.", FAILED)
    typer.echo(secret_of(server_secret, owner))


@contextmanager
def database() -> "Iterator[Database]":
    """The one that the settings name, brought up to date: a key may be made before the first start."""
    from sqlalchemy.exc import SQLAlchemyError

    from migrations import upgrade
    from shared.database import connect
    from shared.errors import SettingsError
    from shared.settings import Settings

    try:
        url = Settings.from_env().sqlalchemy_url
        upgrade(url)
        db = connect(url)
        try:
            yield db
        finally:
            db.close()
    except SettingsError as error:
        stop(f"{error.title}: {error.detail}", BAD_USAGE)
    except SQLAlchemyError as error:
        stop(f"The database cannot be used: {getattr(error, 'orig', None) or error}.", BAD_USAGE)


def _shown(row: "KeyRow") -> dict[str, object]:
    return {
        "id": row.id,
        "owner": row.owner,
        "scopes": row.scopes,
        "per_minute": row.per_minute,
        "created_at": _day(row.created_at),
        "expires_at": _day(row.expires_at),
        "revoked_at": _day(row.revoked_at),
        "note": row.note,
    }


def _day(microseconds: int | None) -> str | None:
    return None if microseconds is None else datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat()
