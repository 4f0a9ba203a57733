"""A run's state on disk, so that one that was killed at any step goes on as if it had not been."""

import os
from pathlib import Path
from typing import Any

import torch

from training.samples import BadData

NAME = "checkpoint.pt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Replace the last checkpoint in one step: a kill leaves the old one or the new one, never half of one."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{NAME}.new"
    with unfinished.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / NAME)


def load(folder: Path, run: str) -> dict[str, Any] | None:
    """The last checkpoint of this very run; None if there is none.

    `run` names configuration and data: going on with others would give weights that no run explains.

    Raises: BadData if the folder holds another run
    """
    path = folder / NAME
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if state["run"] != run:
        raise BadData(
            f"{folder} holds an unfinished run with another configuration or other data. "
            "Finish that one, remove its folder, or name another with RUN=folder."
        )
    return state


def clear(folder: Path) -> None:
    (folder / NAME).unlink(missing_ok=True)
