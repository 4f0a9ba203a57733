"""Readers of data sets as they are published: a folder in, samples out."""

from collections.abc import Callable
from pathlib import Path

from shared.catalog import Pipeline
from training.importers.abdominal import read_abdominal
from training.importers.chest import read_chest
from training.importers.ham10000 import read_ham10000, read_lesion_masks
from training.importers.scalp import read_scalp
from training.importers.table import TABLE, read_table
from training.samples import BadData, Sample

# Pipeline -> the reader of its published data set.
READERS: dict[str, Callable[[Path, Pipeline], list[Sample]]] = {
    "skin": read_ham10000,
    "scalp": read_scalp,
    "lesion": read_lesion_masks,
    "chest-xray": read_chest,
    "abdominal-xray": read_abdominal,
}


def read_data(folder: Path, pipeline: Pipeline) -> list[Sample]:
    """The folder's samples: by its `samples.csv`, which any pipeline may have, else as it was published.

    Raises: BadData listing everything that cannot be used
    """
    if not folder.is_dir():
        raise BadData(f"There is no folder {folder}.")
    if (folder / TABLE).is_file():
        return read_table(folder, pipeline)
    if pipeline.name not in READERS:
        raise BadData(f"{folder} has no {TABLE}, and {pipeline.name} has no layout of its own.")
    return READERS[pipeline.name](folder, pipeline)
