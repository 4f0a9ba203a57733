"""Ask a network about pictures without any server: a csv row per picture.

python -m training.predict pictures/ --pipeline skin -o out.csv
"""

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from shared.cards import ModelCard, load_card
from shared.catalog import PIPELINES, Head
from shared.clinical import Known
from shared.errors import CardMismatch, ServiceError
from shared.heads import grade_probabilities, pixel_probabilities, probabilities
from shared.images import Limits, decode
from shared.masks import enlarged, mask_png
from shared.networks import Network, load_network
from shared.preprocess import normalise, to_tensor
from training.config import shipped
from training.evaluate import show
from training.importers.files import PICTURES
from training.kinds import objective_for
from training.known import known_of, with_known
from training.samples import BadData, Copy, Sample, Told

ENDINGS = (*PICTURES, ".webp", ".tif", ".tiff", ".bmp", ".dcm")
ROOT = Path(__file__).parents[1]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="training.predict", description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="a picture, a folder, or a csv with a column `file`")
    parser.add_argument("--pipeline", default="skin", choices=sorted(PIPELINES))
    parser.add_argument("--model", type=Path, help="folder of card and weights; default: the shipped one")
    parser.add_argument("-o", "--out", type=Path, help="the csv; default: standard output")
    parser.add_argument("--masks", type=Path, help="write each mask here, as a PNG in the picture's own size")
    parser.add_argument("--embeddings", type=Path, help="write the pooled features here, as .npz")
    parser.add_argument("--tta", action="store_true", help="average with the mirrored picture")
    parser.add_argument("--label", default="label", help="the csv's column of the truth, which gives figures")
    options = parser.parse_args(arguments)
    folder = options.model or shipped(PIPELINES[options.pipeline])
    try:
        head = PIPELINES[options.pipeline].heads[0]
        asker = Asker(load_card(folder), head, folder, options.tta, options.masks, options.embeddings)
        files, truth, told = pictures_of(options.source, options.label)
        if asker.card.clinical:
            known = known_of(told.items(), PIPELINES[options.pipeline])
            asker.known = dict(zip(told, known, strict=True))
        if options.out:
            with options.out.open("w", newline="", encoding="utf-8") as file:
                rows = write(asker, files, file)
        else:
            rows = write(asker, files, sys.stdout)
        if truth:
            tell_figures(asker, truth, rows, Console(stderr=True))
    except (BadData, CardMismatch) as error:
        sys.exit(f"Cannot predict: {error}")


def pictures_of(source: Path, column: str) -> tuple[list[Path], dict[str, str], dict[str, Told]]:
    """The pictures that are asked about, the truth of those whose row tells it, and what it tells of patients.

    Raises: BadData if there are none
    """
    truth, told = dict[str, str](), dict[str, Told]()
    if source.suffix.lower() == ".csv":
        with source.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        if rows and "file" not in rows[0]:
            raise BadData(f"{source} has no column `file`.")
        files = [source.parent / row["file"] for row in rows]
        truth = {str(source.parent / row["file"]): row[column] for row in rows if row.get(column)}
        told = {
            str(file): Told(*(row.get(name) or "" for name in ("age", "sex", "site")))
            for file, row in zip(files, rows, strict=True)
        }
    elif source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.suffix.lower() in ENDINGS)
    else:
        files = [source]
    if not files:
        raise BadData(f"{source} holds no pictures.")
    return files, truth, told


class Asker:
    """A network, and the columns that its kind of head gives a picture."""

    def __init__(
        self,
        card: ModelCard,
        head: Head,
        folder: Path,
        mirrored: bool = False,
        masks: Path | None = None,
        embeddings: Path | None = None,
    ) -> None:
        if masks and head.kind != "segment":
            raise BadData(f"{card.name} gives no masks.")
        if embeddings and head.kind == "segment":
            raise BadData(f"{card.name} has no pooled features.")
        self.card, self.head, self.mirrored, self.masks = card, head, mirrored, masks
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network: Network = load_network(card, head, folder).to(self.device)
        self.embeddings = embeddings
        self.known: dict[str, Known] = {}  # by file; of others nothing
        self._features: dict[str, np.ndarray] = {}
        self._last: Tensor | None = None
        self.network.last_layer().register_forward_pre_hook(self._remember)

    def _remember(self, layer: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._last = inputs[0]

    @property
    def columns(self) -> list[str]:
        if self.head.kind == "classify":
            return [*(f"p_{code}" for code in self.card.labels), "top"]
        if self.head.kind == "grade":
            return [f"p_{code}_{grade}" for code in self.card.labels for grade in self.card.grades]
        return [f"area_{code}" for code in self.card.labels[1:]]

    @torch.inference_mode()
    def ask(self, path: Path) -> list[Any]:
        """The columns of one picture.

        Raises: ServiceError, OSError if it cannot be read
        """
        # A mask is as large as its picture, so the picture is not decoded smaller.
        at_least_px = None if self.head.kind == "segment" else self.card.preprocess.size_px
        pixels = decode(path.read_bytes(), Limits(), at_least_px=at_least_px)
        batch = normalise(to_tensor(pixels, self.card.preprocess)[None], self.card.preprocess, torch.float32)
        shares = self._shares(batch.to(self.device))
        if self.embeddings and self._last is not None:
            self._features[str(path)] = self._last[0].float().cpu().numpy()
        if self.head.kind == "segment":
            return self._areas(shares[0].cpu().numpy(), pixels, path)
        row = shares[0].flatten().double().cpu().numpy()
        if self.card.clinical:
            row = with_known(row[None], [self.known.get(str(path), Known())], self.card.clinical)[0]
        values = [round(value, 6) for value in row.tolist()]
        if self.head.kind == "grade":
            return values
        return [*values, self.card.labels[int(row.argmax())]]

    def _shares(self, batch: Tensor) -> Tensor:
        compute = {
            "classify": probabilities,
            "grade": grade_probabilities,
            "segment": pixel_probabilities,
        }[self.head.kind]
        if not self.mirrored:
            return compute(self.network(batch), self.card)
        other = compute(self.network(batch.flip(3)), self.card)
        if self.head.kind == "segment":
            other = other.flip(3)
        return (compute(self.network(batch), self.card) + other) / 2  # last, so that the hook sees it upright

    def _areas(self, shares: np.ndarray, pixels: np.ndarray, path: Path) -> list[float]:
        smallest = (0.0, *(self.card.smallest_area[code] for code in self.card.labels[1:]))
        mask = enlarged(shares, (pixels.shape[1], pixels.shape[0]), smallest).mask
        if self.masks:
            self.masks.mkdir(parents=True, exist_ok=True)
            (self.masks / f"{path.stem}.png").write_bytes(mask_png(mask, self.head))
        counts = np.bincount(mask.ravel(), minlength=len(self.card.labels)) / mask.size
        return [round(float(share), 6) for share in counts[1:]]

    def save_embeddings(self) -> None:
        if self.embeddings:
            features = np.stack(list(self._features.values())) if self._features else np.zeros((0, 0))
            np.savez_compressed(self.embeddings, name=list(self._features), features=features)


def write(asker: Asker, files: Sequence[Path], out: TextIO) -> dict[str, list[Any]]:
    """One row per picture, those that cannot be read with the reason; returns the others' columns."""
    writer, rows = csv.writer(out), dict[str, list[Any]]()
    writer.writerow(["file", *asker.columns, "problem"])
    for path, columns, problem in _asked(asker, files):
        writer.writerow([path, *(columns or [""] * len(asker.columns)), problem])
        if columns:
            rows[str(path)] = columns
    asker.save_embeddings()
    return rows


def _asked(asker: Asker, files: Sequence[Path]) -> Iterator[tuple[Path, list[Any] | None, str]]:
    console = Console(stderr=True)
    for path in track(files, description="asking", transient=True, console=console):
        try:
            yield path, asker.ask(path), ""
        except (ServiceError, OSError) as error:
            yield path, None, str(getattr(error, "detail", error))


def tell_figures(asker: Asker, truth: dict[str, str], rows: dict[str, list[Any]], console: Console) -> None:
    """The figures of a classifier's rows whose truth is known.

    Raises: BadData if a label is not the card's, or the head is no classifier
    """
    if asker.head.kind != "classify":
        raise BadData("Figures are computed from a label column for classifiers only; see training.evaluate.")
    codes = asker.card.labels
    wrong = sorted({label for label in truth.values() if label not in codes})
    if wrong:
        raise BadData(f"The card has no label {', '.join(wrong)}; it has {', '.join(codes)}.")
    known = [name for name in rows if name in truth]
    samples = [
        Sample(name, name, "given", (Copy(Path(name)),), label=codes.index(truth[name])) for name in known
    ]
    objective = objective_for(asker.head, asker.card.preprocess, asker.device)
    shares = np.array([rows[name][: len(codes)] for name in known], dtype=np.float64)
    found = objective.metrics(asker.card, "the given labels", samples, shares)
    show(asker.card.model_copy(update={"metrics": found, "clinical": None}), console)


if __name__ == "__main__":
    main()
