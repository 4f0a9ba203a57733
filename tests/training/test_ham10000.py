"""Reading HAM10000 with its split and its masks, and what is wrong with it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from shared.cards import Preprocess
from shared.catalog import PIPELINES, SKIN_LABELS
from shared.images import Limits, decode
from shared.preprocess import to_tensor
from tests.shared_data import shared_data
from tests.training.conftest import plan
from training.importers.ham10000 import read_ham10000, read_lesion_masks
from training.pictures import load_pictures
from training.samples import Archives, BadData, faults_of

Tree = Callable[..., Path]
SKIN, LESION = PIPELINES["skin"], PIPELINES["lesion"]


def test_rows_become_samples_with_the_sharpest_copy_first(tree: Tree) -> None:
    samples = read_ham10000(tree(), SKIN)
    assert len(samples) == 7 * 12 * 2
    first, second = samples[0], samples[1]
    assert (first.id, first.group, first.split) == ("ISIC_akiec_0_0", "HAM_akiec_0", "train")
    assert SKIN_LABELS[samples[-1].label].code == "vasc"
    assert ["224crop" in copy.path.name for copy in second.copies] == [True, False]
    assert ["224crop" in copy.path.name for copy in first.copies] == [False]


def test_a_split_that_leaks_is_refused_by_name(tree: Tree) -> None:
    rows = plan()
    rows[1]["split"] = "test"
    faults = faults_of(read_ham10000(tree(rows), SKIN), SKIN.heads[0])
    assert [fault for fault in faults if fault.startswith("HAM_akiec_0: stands in")]


def test_a_label_that_val_lacks_is_refused_before_the_first_epoch(tree: Tree) -> None:
    rows = [row for row in plan() if (row["dx"], row["split"]) != ("vasc", "val")]
    faults = faults_of(read_ham10000(tree(rows), SKIN), SKIN.heads[0])
    assert faults == ["no picture of val is vasc: it has no threshold"]


def test_everything_wrong_is_said_at_once(tree: Tree) -> None:
    rows = plan()
    rows[0]["dx"] = "wart"
    rows[2]["split"] = "elsewhere"
    rows[4]["image_id"] = "MISSING_1"
    with pytest.raises(BadData) as refused:
        read_ham10000(tree(rows), SKIN)
    for part in ("'wart'", "'elsewhere'", "MISSING_1: no picture"):
        assert part in str(refused.value)


def test_a_folder_without_the_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="neither a"):
        read_ham10000(tmp_path, SKIN)


def test_pictures_are_prepared_as_the_worker_prepares_them(tree: Tree) -> None:
    samples = read_ham10000(tree(), SKIN)[:3]
    copies = [sample.copies[0] for sample in samples]
    preprocess = Preprocess(size_px=64, mean=(0, 0, 0), std=(1, 1, 1))
    loaded = load_pictures(copies, preprocess, "")
    assert loaded.shape == (3, 3, 64, 64)
    with Archives() as archives:
        for copy, picture in zip(copies, loaded, strict=True):
            pixels = decode(copy.read(archives), Limits(), at_least_px=64)
            assert torch.equal(picture, to_tensor(pixels, preprocess))


def test_the_real_split_is_whole_and_grouped() -> None:
    samples = read_ham10000(shared_data("skin"), SKIN)
    assert len(samples) == 10_015
    assert len({sample.group for sample in samples}) == 7_470
    counts = {label.code: 0 for label in SKIN_LABELS}
    for sample in samples:
        counts[SKIN_LABELS[sample.label].code] += 1
    assert counts == {"akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142}
    assert sum(len(sample.copies) == 2 for sample in samples) == 3_461


def test_the_real_masks_belong_to_the_whole_pictures() -> None:
    samples = read_lesion_masks(shared_data("skin"), LESION)
    assert len(samples) == 10_015
    with Archives() as archives:
        for sample in samples[::2000]:
            assert sample.mask is not None
            mask = sample.mask.read(archives)
            assert mask.shape == decode(sample.copies[0].read(archives), Limits()).shape[:2]
            assert set(mask.ravel().tolist()) == {0, 1}


def test_a_lesion_without_mask_is_named(tree: Tree) -> None:
    with pytest.raises(BadData, match="ISIC_akiec_0_0: no mask of that name"):
        read_lesion_masks(tree(), LESION)
