"""Which pipelines this installation can run, judged by the cards and weights that lie on its disk."""

from dataclasses import dataclass
from pathlib import Path

from shared.cards import ModelCard, load_card, verify
from shared.catalog import Head, Pipeline
from shared.errors import CardMismatch


@dataclass(frozen=True)
class Standing:
    """Whether a pipeline can run, why not, and the command that would change that."""

    available: bool
    reason: str | None = None
    train_command: str | None = None


class Availability:
    """Looks at card and weights again only when a file changed: hashing weights takes a while."""

    def __init__(self, models: Path) -> None:
        self._models = models
        self._seen: dict[str, tuple[tuple[int, ...], ModelCard | None, str | None]] = {}

    def standing(self, pipeline: Pipeline) -> Standing:
        """Optional heads do not count: without them the pipeline says less, and nothing false."""
        for head in pipeline.required:
            if reason := self._look(head)[1]:
                return Standing(False, reason, f"make train PIPELINE={pipeline.name} DATA=<folder>")
        return Standing(True)

    def card(self, pipeline: Pipeline) -> ModelCard | None:
        """The card of the first head, if it can be served."""
        return self._look(pipeline.heads[0])[0]

    def _look(self, head: Head) -> tuple[ModelCard | None, str | None]:
        folder = self._models / head.weights
        stamp = _stamp(folder / "card.json") + _stamp(folder / "weights.safetensors")
        known = self._seen.get(head.weights)
        if known and known[0] == stamp:
            return known[1:]
        card, reason = _examine(head, folder)
        self._seen[head.weights] = (stamp, card, reason)
        return card, reason


def _examine(head: Head, folder: Path) -> tuple[ModelCard | None, str | None]:
    """A card with its weights, or the reason why there is none."""
    try:
        card = load_card(folder)
        verify(card, head, folder / "weights.safetensors")
    except CardMismatch as error:
        return None, f"There are no trained weights to use: {error.detail}"
    return card, None


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)
