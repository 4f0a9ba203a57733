"""A small tree of the exact layout that training reads, with drawn pictures."""

import csv
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shared.catalog import SKIN_LABELS
from training.config import Augment, TrainConfig

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
def xrays(tmp_path: Path) -> Callable[..., Path]:
    """`xrays()` writes drawn chest pictures with masks: a block for each structure, two pictures a patient."""

    def make(patients: int = 10, side: int = 48) -> Path:
        folder = tmp_path / "chest"
        for part in ("images", "masks_anatomy"):
            (folder / part).mkdir(parents=True)
        with (folder / "index.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "patientid", "licence_of_image"])
            for number in range(2 * patients):
                name = f"cxr{number:03}"
                writer.writerow([name, number // 2, "not stated" if number % 10 == 9 else "CC BY"])
                picture, mask = drawn_chest(number, side)
                Image.fromarray(picture).save(folder / "images" / f"{name}.png")
                Image.fromarray(mask).save(folder / "masks_anatomy" / f"{name}.png")
        return folder

    return make


def drawn_chest(seed: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A grey picture whose brightness tells the structure, and its mask."""
    random = np.random.default_rng(seed)
    mask = np.zeros((side, side + 8), dtype=np.uint8)
    top, third = int(random.integers(4, 12)), side // 3
    for label, left in ((2, 2), (3, third + 2), (1, 2 * third + 2)):
        mask[top : side - 4, left : left + third - 2] = label
    mask[:top, third + 4 : third + 10] = 4
    noise = random.integers(-10, 10, mask.shape)
    return np.clip(mask.astype(int) * 55 + noise, 0, 255).astype(np.uint8), mask


@pytest.fixture
def segmenting(config: TrainConfig) -> TrainConfig:
    return config.model_copy(
        update={
            "pipeline": "chest-xray", "source": "medq", "network": "unet_bn", "options": {"widths": [8, 16]},
            "crop": "whole", "cache_px": 48, "microbatch": 4, "epochs": 3, "folds": 2, "drop": 0.0,
            "mixup": 0.0, "augment": Augment(turn_deg=5, flip=False, elastic=0.02, blur=0),
        }
    )  # fmt: skip


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Networks this small lose more by sharing a step between threads than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def config() -> TrainConfig:
    return TrainConfig(
        pipeline="skin", network="test_efficientnet", seed=3, first_px=32, last_px=32, serve_px=32,
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), epochs=3, microbatch=12, learning_rate=0.01,
        weight_decay=0.01, drop=0.1, drop_path=0.0, label_smoothing=0.05, mixup=0.2, ema=0.8,
        sampling_power=0.5, logit_adjustment=1.0, data="drawn", licence="none",
    )  # fmt: skip
