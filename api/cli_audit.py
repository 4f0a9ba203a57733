"""`medq audit`: looks into the audit log and computes its chain again. It talks to the database, like `medq key`."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from api.cli_keys import database
from api.console import FAILED, AsJson, out, print_json, stop

app = typer.Typer(help="Look into the audit log, and prove that nobody changed it.", no_args_is_help=True)


@app.command()
def verify(as_json: AsJson = False) -> None:
    """Compute every block again. Keep the head elsewhere: it proves all that came before it."""
    from shared import audit

    with database() as db:
        found = audit.verify(db)
    if as_json:
        print_json(vars(found))
    else:
        typer.echo(
            f"{found.blocks} blocks, {found.rows} rows, {found.unsealed} not yet sealed, head {found.head}"
        )
    if found.broken is not None:
        stop(f"Block {found.broken} is not as it was sealed: {found.reason}.", FAILED)


@app.command("list")
def list_entries(
    subject: Annotated[str | None, typer.Option(help="Only of this job or batch.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List who did what, the newest first."""
    from shared import audit

    with database() as db:
        rows = audit.entries(db, subject, limit)
    for row in rows:
        at = datetime.fromtimestamp(row.at / 1e6, UTC).isoformat()
        if as_json:
            names = ("id", "actor", "owner", "action", "subject", "block")
            print_json({"at": at} | {name: getattr(row, name) for name in names})
        else:
            out().print(f"{at}  {row.action:7} {row.subject}  {row.owner}  {row.actor}", soft_wrap=True)
