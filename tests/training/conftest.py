"""A small tree of the exact layout that training reads, with drawn pictures."""

import csv
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.catalog import SKIN_LABELS
from training.config import TrainConfig

HUES = {label.code: (37 * n % 256, 90 + 20 * n, 255 - 30 * n) for n, label in enumerate(SKIN_LABELS)}


def drawn(code: str, seed: int, size: tuple[int, int]) -> bytes:
    """A picture whose colour tells its label, so that a few steps can learn it."""
    random = np.random.default_rng(seed)
    noise = random.integers(-20, 20, (size[1], size[0], 3))
    pixels = np.clip(np.array(HUES[code]) + noise, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """`tree()` writes csv and zips: per label 6 lesions in train, 3 in val and 3 in test, two pictures each."""

    def make(rows: list[dict[str, str]] | None = None) -> Path:
        folder = tmp_path / "data"
        folder.mkdir()
        rows = plan() if rows is None else rows
        with (folder / "ham10000_metadata_split.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        with (
            zipfile.ZipFile(folder / "ham10000_images_200x150.zip", "w") as coarse,
            zipfile.ZipFile(folder / "ham10000_224crop_subset.zip", "w") as sharp,
        ):
            for number, row in enumerate(rows):
                if row["dx"] in HUES and not row["image_id"].startswith("MISSING"):
                    coarse.writestr(f"{row['image_id']}.jpg", drawn(row["dx"], number, (200, 150)))
                    if number % 2:
                        sharp.writestr(f"{row['image_id']}.jpg", drawn(row["dx"], number, (224, 224)))
        return folder

    return make


def plan() -> list[dict[str, str]]:
    rows = []
    for label in SKIN_LABELS:
        for lesion in range(12):
            split = "train" if lesion < 6 else "val" if lesion < 9 else "test"
            rows += [
                {
                    "lesion_id": f"HAM_{label.code}_{lesion}",
                    "image_id": f"ISIC_{label.code}_{lesion}_{view}",
                    "dx": label.code,
                    "split": split,
                }
                for view in range(2)
            ]
    return rows


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are tested by themselves; a whole run need not wait for a thousand draws."""
    monkeypatch.setattr("training.metrics.DRAWS", 60)


@pytest.fixture
def config() -> TrainConfig:
    return TrainConfig(
        pipeline="skin", network="test_efficientnet", seed=3, first_px=32, last_px=32, serve_px=32,
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), epochs=3, microbatch=12, learning_rate=0.01,
        weight_decay=0.01, drop=0.1, drop_path=0.0, label_smoothing=0.05, mixup=0.2, ema=0.8,
        sampling_power=0.5, logit_adjustment=1.0, data="drawn", licence="none",
    )  # fmt: skip
