"""`medq knowledge`: texts of the operator's own that answers may rest on. Works on the database, as `medq key` does."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from api.cli_keys import database
from api.console import BAD_USAGE, FAILED, AsJson, out, print_json, say, stop
from api.render import plain

if TYPE_CHECKING:
    from shared.tables import TextRow

app = typer.Typer(
    help="Add, list and remove texts that answers may rest on. Works on the database, as `medq key` does.",
    no_args_is_help=True,
)


@app.command()
def add(
    folder: Annotated[
        Path, typer.Argument(help="Folder of .md and .txt files, each with a header.", exists=True)
    ],
    as_json: AsJson = False,
) -> None:
    """Add every text of a folder, or none if one of them has a fault; newer editions replace older ones."""
    from shared import texts
    from shared.text_files import read_folder

    found, faults = read_folder(folder)
    if faults:
        for fault in faults:
            say(plain(fault))
        stop("Nothing was added.", BAD_USAGE)
    with database() as db:
        try:
            added = texts.add(db, found)
        except texts.TooManyTexts as error:
            stop(f"Nothing was added: {error}.", FAILED)
    for one in added:
        if as_json:
            print_json(
                {"id": one.id, "file": one.text.file, "how": one.how, "passages": len(one.text.passages)}
            )
        else:
            typer.echo(
                f"{one.how:<9}  {one.id}  {plain(one.text.title)} ({one.text.lang}, {len(one.text.passages)})"
            )
    say("Answers rest on them from within five seconds on. No clinician of MedQ has read them.")


@app.command("list")
def list_texts(as_json: AsJson = False) -> None:
    """List the texts, the oldest first."""
    from shared import texts

    with database() as db:
        found = [_shown(row) for row in texts.every(db)]
    if as_json:
        for one in found:
            print_json(one)
        return
    table = Table("id", "title", "source", "date", "language", "passages", box=None)
    for one in found:
        cells = (one[name] for name in ("id", "title", "source", "date", "lang", "passages"))
        table.add_row(*(plain(str(cell)) for cell in cells))
    out().print(table if found else "No texts yet: medq knowledge add FOLDER")


@app.command()
def remove(id: Annotated[str, typer.Argument(metavar="ID", help="The text's id.")]) -> None:
    """Take a text away; answers that quoted it keep their quotes."""
    from shared import texts
    from shared.errors import NotFound

    with database() as db:
        try:
            texts.remove(db, id)
        except NotFound as error:
            stop(error.detail, FAILED)
    say(f"{plain(id)} is removed.")


def _shown(row: "TextRow") -> dict[str, object]:
    names = ("id", "title", "source", "url", "date", "lang", "file")
    return {name: getattr(row, name) for name in names} | {"passages": len(row.passages)}
