"""What one head found for one picture, and how several heads' results become one job's."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.cards import ModelCard
from shared.clinical import Known
from workers.artifacts import Made


@dataclass(frozen=True)
class HeadResult:
    """Columns of the job's row, and artifacts that are not yet stored."""

    values: dict[str, Any] = field(default_factory=dict)
    made: tuple[Made, ...] = ()


def merged(results: Sequence[HeadResult]) -> HeadResult:
    """Lists of the same column follow each other: six cards may grade six conditions."""
    values: dict[str, Any] = {}
    for result in results:
        for column, found in result.values.items():
            values[column] = [*values.get(column, ()), *found]
    return HeadResult(values, tuple(made for result in results for made in result.made))


def models_used(cards: Sequence[ModelCard], known: Known) -> dict[str, Any]:
    """The weights of the first head with what it was told, and those of any further ones under `also`."""
    first, *others = (_used(card, known) for card in cards)
    return first | {"also": others}


def _used(card: ModelCard, known: Known) -> dict[str, Any]:
    told = known.used(card.clinical) if card.clinical else []
    return {"name": card.name, "version": card.version, "sha256": card.sha256, "clinical": told}
