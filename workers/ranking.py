"""Which passages come nearest to a question: BM25 over the words of its language."""

import re
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from math import ceil

import bm25s
import snowballstemmer

from shared.catalog import Lang
from workers.knowledge import Passage

STEMMERS = {"en": "english", "fr": "french"}
NEAR = 0.5  # of the best score; what is farther off would only distract

_RUN = re.compile(r"[가-힣]+|[^\W_가-힣]+")
# Words that say nothing of what is asked; of Korean, what its endings and particles leave.
_EMPTY = """
    the a an and or of to in on at by is it its this that these those with for from are was were be been has have
    had my your i you he she we they me what which who how when where why can could should would will do does did
    not no if so as am tell say use get need want know think make there any
    le la les l un une des du de d et ou en au aux est ce cet cette ces c qui que qu quoi quel quelle je j tu il elle
    nous vous ils elles mon ma mes son sa ses votre vos sur dans par pour avec sans ne n pas plus si y s se sont
    comment dois faut peut puis dire faire
    습니 니다 입니 합니 됩니 하세 세요 나요 까요 인가 가요 을까 일까 할까 있나 있습 있는 있을 없는 없습 어요 아요 해요 하는
    하고 하면 하나 하지 해도 해야 해서 되나 되는 될까 에서 으로 에는 에도 까지 부터 이나 것이 것은 것을 것입 이것 그것
    어떻 떻게 무엇 얼마 언제 제가 저는
"""
_STOP = frozenset(_EMPTY.split())
SHARE = {
    "en": 2,
    "fr": 2,
    "ko": 4,
}  # one in so many of the question's words must be there; two are always enough


class _Stemmers(threading.local):
    """A stemmer keeps the word that it works on, so that each thread needs its own."""

    def __init__(self) -> None:
        self.of = {lang: snowballstemmer.stemmer(name) for lang, name in STEMMERS.items()}


_STEMMERS = _Stemmers()


def words(text: str, lang: Lang) -> list[str]:
    """Stems of English and French words without accents; of Hangul every two syllables that stand together.

    Korean joins particles and endings to its words, so that pairs of syllables find what whole words miss.
    """
    return list(_words(unicodedata.normalize("NFC", text).casefold(), lang))


def _words(text: str, lang: Lang) -> Iterator[str]:
    for run in _RUN.findall(text):
        if "가" <= run[0] <= "힣":
            pairs = (run[i : i + 2] for i in range(max(1, len(run) - 1)))
            yield from (pair for pair in pairs if pair not in _STOP)
        elif run not in _STOP:
            stem = run if lang == "ko" else _STEMMERS.of[lang].stemWord(run)
            apart = unicodedata.normalize("NFKD", stem)
            yield "".join(char for char in apart if not unicodedata.combining(char))


class Index:
    """Passages of one language, ready to be asked. Nothing in it changes, so threads may share it."""

    def __init__(self, passages: Sequence[Passage], lang: Lang) -> None:
        self._lang = lang
        spoken = [words(f"{passage.title} {passage.text}", lang) for passage in passages]
        kept = [(passage, found) for passage, found in zip(passages, spoken, strict=True) if found]
        self._passages = [passage for passage, _ in kept]
        self._words = [frozenset(found) for _, found in kept]
        self._bm25 = bm25s.BM25(method="lucene")
        if kept:
            self._bm25.index([found for _, found in kept], show_progress=False)

    def nearest(
        self,
        question: str,
        names: Sequence[str] = (),
        limit: int = 3,
        keep: Callable[[Passage], bool] = lambda _: True,
    ) -> list[Passage]:
        """The passages nearest to a question about what bears one of `names`, best first, at most `limit`.

        A passage counts when it holds a whole name, or enough words of the question: see SHARE.
        """
        asked = set(words(question, self._lang))
        about = [frozenset(found) for name in names if (found := words(name, self._lang))]
        wanted = sorted(asked.union(*about))
        if not self._passages or not wanted:
            return []
        scores = self._bm25.get_scores(wanted)
        fits = [
            i
            for i in range(len(scores))
            if scores[i] > 0 and self._fits(i, asked, about) and keep(self._passages[i])
        ]
        ranked = sorted(fits, key=lambda i: (-scores[i], i))[:limit]
        return [self._passages[i] for i in ranked if scores[i] >= NEAR * scores[ranked[0]]]

    def _fits(self, i: int, asked: set[str], about: Sequence[frozenset[str]]) -> bool:
        return _answers(asked, self._words[i], self._lang) or any(name <= self._words[i] for name in about)


def takes_up(question: str, passage: Passage, lang: Lang) -> bool:
    """Whether a passage holds enough words of the question itself; a label's name alone does not answer it."""
    spoken = frozenset(words(f"{passage.title} {passage.text}", lang))
    return _answers(set(words(question, lang)), spoken, lang)


def _answers(asked: set[str], spoken: frozenset[str], lang: Lang) -> bool:
    return bool(asked) and len(asked & spoken) >= min(2, ceil(len(asked) / SHARE[lang]))
