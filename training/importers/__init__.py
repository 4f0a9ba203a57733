"""Readers of data sets as they are published: a folder in, samples out."""

from collections.abc import Callable
from pathlib import Path

from shared.catalog import Pipeline
from training.importers.chest import read_chest
from training.importers.ham10000 import read_ham10000, read_lesion_masks
from training.samples import Sample

# Pipeline -> its reader.
READERS: dict[str, Callable[[Path, Pipeline], list[Sample]]] = {
    "skin": read_ham10000,
    "lesion": read_lesion_masks,
    "chest-xray": read_chest,
}
