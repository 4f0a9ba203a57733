"""The texts that an operator added, as a process that answers last saw them."""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import date

import structlog

from shared import texts
from shared.catalog import LANGUAGES, Lang
from shared.database import Database
from shared.sentences import whole_sentences
from shared.tables import TextRow
from workers.encoder import LANG, REMEMBERED, Encoder
from workers.knowledge import Passage, Quote
from workers.label_texts import Source
from workers.ranking import Index

FRESH_S = 5.0  # how long a process may go on with what it saw: the longest time until a change is everywhere

log = structlog.get_logger(__name__)


class Shelf:
    """An index for each language, made anew when the texts have changed.

    Threads share it; one that finds it old looks for all of them. With an encoder the texts that it understands are
    found by their words at once, and by their meaning as soon as a thread beside has read them.
    """

    def __init__(
        self,
        db: Database,
        encoder: Encoder | None = None,
        fresh_s: float = FRESH_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db, self._encoder, self._fresh_s, self._clock = db, encoder, fresh_s, clock
        self._lock = threading.Lock()
        self._seen_at = -float("inf")
        self._ids: tuple[str, ...] = ()
        self._indexes: dict[Lang, Index] = {}
        self._reader: threading.Thread | None = None

    def nearest(self, question: str, names: Sequence[str], lang: Lang, limit: int = 3) -> list[Passage]:
        """Passages in the reader's language, best first."""
        index = self._current().get(lang)
        return index.nearest(question, names, limit) if index else []

    def wait(self, timeout_s: float) -> bool:
        """Whether everything that was seen so far has been read within that time."""
        self._current()
        if self._reader:
            self._reader.join(timeout_s)
        return self._reader is None or not self._reader.is_alive()

    def _current(self) -> dict[Lang, Index]:
        with self._lock:
            if self._clock() - self._seen_at >= self._fresh_s:
                self._look()
                self._seen_at = self._clock()
            return self._indexes

    def _look(self) -> None:
        known = texts.ids(self._db)
        if known == self._ids:
            return
        rows = texts.every(self._db)
        self._ids = tuple(row.id for row in rows)
        found = {
            lang: [passage for row in rows if row.lang == lang for passage in passages(row)]
            for lang in LANGUAGES
        }
        self._indexes = {lang: Index(found[lang], lang) for lang in LANGUAGES}
        self._read(found[LANG])

    def _read(self, found: list[Passage]) -> None:
        if not found or not self._encoder:
            return
        if len(found) > REMEMBERED:
            log.warning("embeddings_off", detail=f"{len(found)} passages; {REMEMBERED} is the most")
            return
        work = (self._encoder, found, self._ids)
        self._reader = threading.Thread(target=self._learn, args=work, name="reader", daemon=True)
        self._reader.start()

    def _learn(self, encoder: Encoder, found: list[Passage], ids: tuple[str, ...]) -> None:
        began = time.monotonic()
        index = Index(found, LANG, encoder)
        with self._lock:
            if ids == self._ids:  # else they have changed meanwhile, and another thread reads what is new
                self._indexes = self._indexes | {LANG: index}
        log.info("texts_read", passages=len(found), seconds=round(time.monotonic() - began, 1))


def passages(row: TextRow) -> list[Passage]:
    """A text's pieces, each with the sentences that may be quoted from it."""
    source = Source(row.id, row.source, row.title, row.url or "")
    return [
        Passage(
            id=f"added/{row.id}/{number}",
            label="",
            topic="added",
            title=row.title,
            quotes=tuple(Quote(sentence, source) for sentence in whole_sentences(text)),
            department=None,
            urgency=None,
            date=date.fromisoformat(row.date),
            reviewed_by="",
        )
        for number, text in enumerate(row.passages, 1)
    ]
