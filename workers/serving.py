"""The networks that a vision worker serves: verified, warmed up, replaced when a new card appears."""

import threading
import time
from dataclasses import dataclass
from typing import Any

import structlog
import torch
from torch import Tensor

from shared.cards import BFLOAT16_TOLERANCE, ModelCard, load_card
from shared.catalog import PIPELINES, Head
from shared.doubt import doubting
from shared.errors import CardMismatch, OutOfMemory
from shared.figures import Figures
from shared.heads import read_out
from shared.networks import load_network
from shared.settings import Settings
from workers.counted import Busy, Counted
from workers.microbatch import Microbatcher
from workers.runtime import Runtime, pick_runtime

RELOAD_S = 5.0

log = structlog.get_logger(__name__)


class Forward:
    """One network on one device: bytes in, what shared.heads.read_out makes of the logits out."""

    def __init__(self, runtime: Runtime, card: ModelCard) -> None:
        self.runtime = runtime
        self._card = card

    @torch.inference_mode()
    def __call__(self, pictures: list[Tensor]) -> list[Any]:
        """Shapes: N times (3, S, S) uint8, channels last in memory -> N items, as the kind of head has them

        Raises: OutOfMemory
        """
        try:
            # Stacked as they lie in memory; stacking the permuted views would transpose every picture.
            stacked = torch.stack([picture.permute(1, 2, 0) for picture in pictures]).permute(0, 3, 1, 2)
            rows = read_out(self.runtime.run(stacked), self._card)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise OutOfMemory() from error
        except RuntimeError as error:
            if any(
                words in str(error) for words in ("allocate memory", "bad_alloc")
            ):  # torch's and OpenVINO's
                raise OutOfMemory() from error
            raise
        return rows

    def warm_up(self) -> None:
        size = self._card.preprocess.size_px
        picture = torch.zeros((size, size, 3), dtype=torch.uint8).permute(2, 0, 1)
        for count in (1, self._card.largest_microbatch):
            self([picture] * count)


@dataclass(frozen=True)
class Served:
    """One head with its network behind a microbatcher."""

    head: Head
    card: ModelCard
    batcher: Microbatcher[Tensor, Any]


def pick_device(settings: Settings) -> torch.device:
    """CUDA is taken when it is there, unless the settings say otherwise."""
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(settings.device)


def pick_dtype(settings: Settings, device: torch.device, card: ModelCard) -> torch.dtype:
    """bfloat16 where the card shows that it finds the same, and the device computes it natively.

    Emulated, it is slower than float32.

    Raises: CardMismatch if the settings ask for bfloat16 and the card shows that it finds something else
    """
    deviation = card.bfloat16_deviation
    if settings.dtype == "bfloat16":
        if deviation is not None and deviation > BFLOAT16_TOLERANCE:
            raise CardMismatch(
                f"In bfloat16 {card.name} deviates by {deviation:.3f} from what its card promises, where "
                f"{BFLOAT16_TOLERANCE} is allowed: leave MEDQ_DTYPE at auto."
            )
        return torch.bfloat16
    if settings.dtype == "float32" or deviation is None or deviation > BFLOAT16_TOLERANCE:
        return torch.float32
    native = (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if device.type == "cuda"
        else torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )
    return torch.bfloat16 if native else torch.float32


class Models:
    """Every head whose weights are installed. A pipeline without weights is not served, and not claimed."""

    def __init__(self, settings: Settings, figures: Figures | None = None) -> None:
        self.device = pick_device(settings)
        self._settings, self._figures = settings, figures or Figures()
        self._busy = Busy(self._figures.busy_seconds)
        self._folder = settings.models_path
        self._served: dict[str, Served] = {}
        self._stamps: dict[str, float] = {}
        self._stopped = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="models", daemon=True)
        self._retiring: dict[Microbatcher[Tensor, Any], threading.Timer] = {}
        for name, head in self._installed():
            self._stamps[name] = self._stamp(name)
            self._served[name] = self._load(name, head)

    def _installed(self) -> list[tuple[str, Head]]:
        heads = {head.weights: head for pipeline in PIPELINES.values() for head in pipeline.heads}
        return [(name, head) for name, head in heads.items() if (self._folder / name / "card.json").exists()]

    def _stamp(self, name: str) -> float:
        return (self._folder / name / "card.json").stat().st_mtime

    def _load(self, name: str, head: Head) -> Served:
        folder = self._folder / name
        began = time.monotonic()
        card = load_card(folder)
        dtype = pick_dtype(self._settings, self.device, card)
        runtime = pick_runtime(
            self._settings.runtime,
            doubting(load_network(card, head, folder), card, folder),
            card,
            self.device,
            dtype,
            self._settings.torch_threads,
        )
        forward = Forward(runtime, card)
        forward.warm_up()
        log.info(
            "model_loaded",
            model=name,
            version=card.version,
            device=str(self.device),
            dtype=str(dtype).removeprefix("torch."),
            runtime=runtime.name,
            seconds=round(time.monotonic() - began, 2),
        )
        batcher = Microbatcher[Tensor, Any](
            Counted(forward, name, card.largest_microbatch, self._figures, self._busy),
            largest=card.largest_microbatch,
            name=f"forward-{name}",
            bisect=True,
            step=f"forward {name}",
        )
        return Served(head, card, batcher)

    @property
    def pipelines(self) -> list[str]:
        """The pipelines that can be served: every head that they cannot do without is loaded."""
        return [
            pipeline.name
            for pipeline in PIPELINES.values()
            if all(head.weights in self._served for head in pipeline.required)
        ]

    def served(self, head: Head) -> Served:
        """Raises: CardMismatch if the head's weights are not installed here."""
        try:
            return self._served[head.weights]
        except KeyError:
            raise CardMismatch(f"This worker has no weights for {head.weights}.") from None

    def heads_of(self, pipeline: str) -> list[Served]:
        """The pipeline's heads in order, without optional ones whose weights are not here.

        Raises: CardMismatch if a head is missing that the pipeline cannot do without
        """
        heads = PIPELINES[pipeline].heads
        return [self.served(head) for head in heads if not head.optional or head.weights in self._served]

    def watch(self) -> None:
        """Replace a network when its card changes. Weights go first, the card last, so a card means both."""
        self._watching.start()

    def _watch(self) -> None:
        while not self._stopped.wait(RELOAD_S):
            for name, head in self._installed():
                if self._stamp(name) != self._stamps.get(name) and name in self._served:
                    self._replace(name, head)

    def _replace(self, name: str, head: Head) -> None:
        """Pictures that wait for the old network are still answered by it."""
        self._stamps[name] = self._stamp(name)
        try:
            fresh = self._load(name, head)
        except CardMismatch as error:
            log.error("model_refused", model=name, detail=error.detail)  # the old one goes on
            return
        old, self._served[name] = self._served[name], fresh
        self._retire(old.batcher)

    def _retire(self, batcher: Microbatcher[Tensor, Any]) -> None:
        """Close in a while: a thread may have picked the old network a moment ago, and not handed in yet."""
        timer = threading.Timer(30, self._end, [batcher])
        timer.daemon = True
        self._retiring[batcher] = timer
        timer.start()

    def _end(self, batcher: Microbatcher[Tensor, Any]) -> None:
        batcher.close()
        self._retiring.pop(batcher, None)

    def close(self) -> None:
        """End every thread: one that frees a network while the interpreter ends makes the process abort."""
        self._stopped.set()
        if self._watching.is_alive():
            self._watching.join()
        for batcher, timer in list(self._retiring.items()):
            timer.cancel()
            timer.join()
            self._end(batcher)
        for served in self._served.values():
            served.batcher.close()
