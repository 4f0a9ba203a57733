"""What computes a network: torch, the reference, or OpenVINO on a CPU, which computes the same in less time.

Besides, OpenVINO gives Python's lock back for a whole pass. Torch takes it again after every layer, and waits for it
as long as another thread is busy with a message: measured on 2 cores from messages of 32 ids, the vision worker
reached 0.69 of a raw loop with torch and 1.08 with OpenVINO.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
import torch
from torch import Tensor, nn

from shared.cards import ModelCard, Preprocess
from shared.networks import Network, for_inference
from shared.preprocess import normalise
from workers.openvino_import import import_openvino

# How far logits may be from the reference's: a probability moves by a quarter of this at most.
TOLERANCE = 1e-4

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Runtime:
    """Pictures to what the network answers.

    Shapes of `run`: (N, 3, S, S) uint8, channels last in memory -> float32 logits, on the network's device
    """

    name: str
    run: Callable[[Tensor], Tensor]


def torch_runtime(network: Network, card: ModelCard, device: torch.device, dtype: torch.dtype) -> Runtime:
    ready = for_inference(network, device, dtype)
    return Runtime("torch", lambda batch: ready(normalise(batch.to(device), card.preprocess, dtype)))


def openvino_runtime(network: Network, card: ModelCard, threads: int) -> Runtime:
    """In float32, whatever the CPU could do besides; `threads` of 0 is one per core.

    Raises: RuntimeError if OpenVINO has no counterpart of an operation
    """
    openvino = import_openvino()
    with warnings.catch_warnings():
        # That mean and std become constants is meant, and that tracing is on its way out of torch is known:
        # OpenVINO takes four times as long over what is to replace it.
        warnings.simplefilter("ignore")
        model = _converted(_traced(network, card.preprocess), card.preprocess.size_px)
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        options["INFERENCE_NUM_THREADS"] = str(threads)
    request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()

    def run(batch: Tensor) -> Tensor:
        answer = request.infer([batch.permute(0, 2, 3, 1).numpy()], share_inputs=True)
        return torch.from_numpy(answer[0])  # a copy: the request writes the next answer where it wrote this

    return Runtime("openvino", run)


class _FromBytes(nn.Module):
    """Shapes: (N, S, S, 3) uint8 -> logits; without permuted inputs, which OpenVINO would copy."""

    def __init__(self, network: Network, preprocess: Preprocess) -> None:
        super().__init__()
        self._network, self._preprocess = network, preprocess

    def forward(self, pictures: Tensor) -> Tensor:
        batch = normalise(pictures.permute(0, 3, 1, 2), self._preprocess, torch.float32)
        return self._network(batch)  # type: ignore[no-any-return]


def _traced(network: Network, preprocess: Preprocess) -> torch.jit.ScriptModule:
    module = _FromBytes(for_inference(network, torch.device("cpu"), torch.float32), preprocess).eval()
    pictures = torch.zeros((2, preprocess.size_px, preprocess.size_px, 3), dtype=torch.uint8)
    with torch.no_grad():
        return torch.jit.freeze(torch.jit.trace(module, pictures, check_trace=False))  # type: ignore[no-any-return,no-untyped-call]


def _converted(traced: torch.jit.ScriptModule, size_px: int) -> Any:
    """OpenVINO's model of (N, S, S, 3) uint8, by its front end: `openvino.convert_model` takes ten times as long."""
    from openvino import PartialShape, Type
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    front = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced)  # named, since the front end does not keep it alive
    loaded = front.load(decoder)
    (pictures,) = loaded.get_inputs()
    loaded.set_element_type(pictures, Type.u8)
    loaded.set_partial_shape(pictures, PartialShape([-1, size_px, size_px, 3]))
    return front.convert(loaded)


def pick_runtime(
    wanted: str, network: Network, card: ModelCard, device: torch.device, dtype: torch.dtype, threads: int
) -> Runtime:
    """OpenVINO for float32 on a CPU where it is wanted and finds what torch finds; else torch."""
    reference = torch_runtime(network, card, device, dtype)
    if wanted == "torch" or device.type != "cpu" or dtype is not torch.float32:
        return reference
    try:
        faster = openvino_runtime(network, card, threads)
    except Exception as error:  # whatever a network that it does not know makes it raise, torch knows it
        log.warning("openvino_refused", model=card.name, error=f"{type(error).__name__}: {error}")
        return reference
    return faster if _agree(reference, faster, card) else reference


@torch.inference_mode()
def _agree(reference: Runtime, other: Runtime, card: ModelCard) -> bool:
    """Both answer alike to drawn pictures, from flat to noise, in a microbatch of several sizes."""
    size, random = card.preprocess.size_px, torch.Generator().manual_seed(0)
    for count in (1, 5):
        noise = torch.rand((count, size, size, 3), generator=random)
        contrast = torch.linspace(0, 1, count).view(count, 1, 1, 1)
        batch = (255 * (0.5 + contrast * (noise - 0.5))).byte().permute(0, 3, 1, 2)
        far = float((reference.run(batch) - other.run(batch)).abs().max())
        if not far <= TOLERANCE:
            log.warning("openvino_refused", model=card.name, error=f"logits differ by {far:.1e}")
            return False
    return True
