"""What one head found for one picture, and how several heads' results become one job's."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.cards import ModelCard
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


def models_used(cards: Sequence[ModelCard]) -> dict[str, Any]:
    """The weights of the first head, and of any further ones under `also`."""
    first, *others = ({"name": c.name, "version": c.version, "sha256": c.sha256} for c in cards)
    return first | {"also": others}
