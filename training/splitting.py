"""Splits and folds over groups, for data that comes without any; and the published leaky one, to compare."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from training.samples import BadData, Sample


def folds_of(samples: Sequence[Sample], count: int, seed: int) -> list[int]:
    """A fold for each sample: groups stay together, labels are spread as evenly as groups allow.

    Raises: BadData if there are fewer groups than folds
    """
    groups = [sample.group for sample in samples]
    if len(set(groups)) < max(2, count):
        raise BadData(f"{len(set(groups))} groups cannot fill {count} folds")
    strata = np.array([_stratum(sample) for sample in samples])
    if np.bincount(strata - strata.min()).max() < count:
        strata[:] = 0  # no label is common enough to be spread
    dealt = np.zeros(len(samples), dtype=int)
    maker = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # a rare label stays where it falls
        for fold, (_, held) in enumerate(maker.split(np.zeros(len(samples)), strata, groups)):
            dealt[held] = fold
    return dealt.tolist()


def split_by_group(samples: Sequence[Sample], seed: int, parts: int = 20) -> list[Sample]:
    """The samples dealt to train (14 of 20 parts), val (3) and test (3), no group in two of them."""
    names = ["train"] * 14 + ["val"] * 3 + ["test"] * 3
    count = min(parts, len({sample.group for sample in samples}))
    dealt = folds_of(samples, count, seed)
    return [
        replace(sample, split=names[part * parts // count])
        for sample, part in zip(samples, dealt, strict=True)
    ]


def leaky_split(samples: Sequence[Sample], seed: int = 42) -> list[Sample]:
    """80/20 by image, stratified by label, as DermQA was split: one lesion's images stand on both sides.

    Its one held set both chooses and reports, so it stands here as `val` and as `test`.
    """
    labels = [sample.label for sample in samples]
    rows = list(range(len(samples)))
    train, held = train_test_split(rows, test_size=0.2, stratify=labels, random_state=seed)
    return _held_out([samples[row] for row in train], [samples[row] for row in held])


def fifth_by_group(samples: Sequence[Sample], seed: int = 42) -> list[Sample]:
    """What `leaky_split` would be without its leak: a fifth held out, by group, standing as `val` and as `test`.

    Raises: BadData if there are fewer than five groups
    """
    dealt = folds_of(samples, 5, seed)
    parts = list(zip(samples, dealt, strict=True))
    return _held_out([one for one, fold in parts if fold], [one for one, fold in parts if not fold])


def _held_out(train: Sequence[Sample], held: Sequence[Sample]) -> list[Sample]:
    return [replace(sample, split="train") for sample in train] + [
        replace(sample, split=split) for split in ("val", "test") for sample in held
    ]


def _stratum(sample: Sample) -> int:
    """What is spread evenly: the label, or the worst grade of a graded picture."""
    return max(sample.grades) if sample.grades else sample.label
