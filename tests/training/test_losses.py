"""Each segmentation loss against its formula, computed pixel by pixel."""

import math

import pytest
import torch
from torch import Tensor

from training.losses import segmentation_loss, soft_dice

WEIGHTS = (0.1, 1.0, 1.0)


def drawn(seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 4, 5, generator=random)
    return logits, torch.randint(0, 3, (2, 4, 5), generator=random)


def pixels(logits: Tensor, target: Tensor) -> list[tuple[list[float], int]]:
    """(probabilities, label) of every pixel."""
    rows = logits.movedim(1, -1).reshape(-1, logits.shape[1]).tolist()
    shares = [[math.exp(v) / sum(math.exp(u) for u in row) for v in row] for row in rows]
    return list(zip(shares, target.flatten().tolist(), strict=True))


def dice_by_hand(label: int, logits: Tensor, target: Tensor) -> float:
    found = pixels(logits, target)
    both = sum(shares[label] for shares, truth in found if truth == label)
    return 2 * both / (sum(shares[label] for shares, _ in found) + sum(truth == label for _, truth in found))


def test_soft_dice_is_its_formula() -> None:
    logits, target = drawn()
    assert soft_dice(logits, target).tolist() == pytest.approx(
        [dice_by_hand(label, logits, target) for label in range(3)], abs=1e-5
    )


def test_soft_dice_of_a_label_that_nobody_saw_is_one() -> None:
    logits = torch.full((1, 2, 4, 4), -50.0)
    logits[:, 0] = 50.0
    assert soft_dice(logits, torch.zeros(1, 4, 4, dtype=torch.long)).tolist() == pytest.approx([1, 1])


def test_the_published_loss_is_its_formula() -> None:
    logits, target = drawn(1)
    weighed = [(WEIGHTS[truth], -math.log(shares[truth])) for shares, truth in pixels(logits, target)]
    entropy = sum(w * value for w, value in weighed) / sum(w for w, _ in weighed)
    mean = sum(dice_by_hand(label, logits, target) for label in range(3)) / 3
    loss = segmentation_loss("cross_entropy_dice", WEIGHTS)(logits, target)
    assert loss.item() == pytest.approx(entropy + 2 * (1 - mean), abs=1e-4)


def test_smps_dice_is_one_minus_the_mean() -> None:
    logits, target = drawn(2)
    expected = 1 - sum(dice_by_hand(label, logits, target) for label in range(3)) / 3
    assert segmentation_loss("dice", WEIGHTS)(logits, target).item() == pytest.approx(expected, abs=1e-4)


def test_smps_focal_loss_is_its_formula_label_by_label() -> None:
    """(1 - p)^2 x -log p of each label against the rest, averaged over labels and pixels."""
    logits, target = drawn(4)
    total = 0.0
    rows = logits.movedim(1, -1).reshape(-1, 3).tolist()
    for row, truth in zip(rows, target.flatten().tolist(), strict=True):
        for label, value in enumerate(row):
            right = 1 / (1 + math.exp(-value if label == truth else value))
            total += (1 - right) ** 2 * -math.log(right)
    loss = segmentation_loss("focal", WEIGHTS)(logits, target)
    assert loss.item() == pytest.approx(total / (3 * len(rows)), abs=1e-4)


@pytest.mark.parametrize("name", ["cross_entropy_dice", "dice", "focal"])
def test_each_loss_falls_to_zero_where_the_mask_is_right(name: str) -> None:
    _, target = drawn(3)
    right = torch.nn.functional.one_hot(target, 3).movedim(-1, 1) * 60.0 - 30.0
    loss = segmentation_loss(name, WEIGHTS)
    assert loss(right, target).item() == pytest.approx(0, abs=1e-4)
    assert loss(-right, target).item() > 0.5


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="no segmentation loss 'lovasz'"):
        segmentation_loss("lovasz", WEIGHTS)
