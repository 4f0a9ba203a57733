"""`make bench`: prints ratios against raw loops; nothing here fails because a machine is slow."""

import platform
import tempfile
from pathlib import Path

import torch
from rich.console import Console

from shared.cards import load_card
from shared.settings import ROOT, Settings
from tests.bench import answers, archive, batch, training, vision, whole
from workers.serving import pick_device, pick_dtype


def main() -> None:
    console = Console()
    settings = Settings()
    device = pick_device(settings)
    card = load_card(settings.models_path / "skin")
    dtype = str(pick_dtype(settings, device, card)).removeprefix("torch.")
    console.print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, {device}, {dtype}"
    )
    with tempfile.TemporaryDirectory(prefix="medq-") as scratch:
        for pipeline in ("skin", "lesion"):
            vision.bench(console, ROOT / "workers/models", Path(scratch), pipeline)
        whole.bench(console, Path(scratch))
        answers.bench(console, Path(scratch) / "answers")
        archive.bench(console, Path(scratch) / "archive")
        batch.bench(console, ROOT / "workers/models", Path(scratch) / "batch")
    training.bench(console)


if __name__ == "__main__":
    main()
