"""Which passages come nearest to a question: by the words of its language, and of English by meaning, too."""

import re
import threading
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from math import ceil

import bm25s
import numpy as np
import snowballstemmer

from shared.catalog import Lang
from workers.encoder import LANG, Encoder
from workers.knowledge import Passage

STEMMERS = {"en": "english", "fr": "french"}
NEAR = 0.5  # of the best BM25 score; what is farther off would only distract
# Cosines from which a passage is near in meaning, and from which an added one is quoted without anybody's judgement.
# Chosen on the open questions of tests/retrieval, of which nothing answers 16: of our own texts none came to 0.3 for
# them; of leaflets one did, and none came to 0.4.
CLOSE, QUOTABLE = 0.3, 0.4
# Reciprocal rank fusion. Source: Cormack, Clarke and Büttcher 2009, doi:10.1145/1571941.1572114
FUSION = 60
WORDS, MEANING = 0.5, 1.0  # what a place in each ranking weighs

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
    """Passages of one language, ready to be asked. Nothing in it changes, so threads may share it.

    With an encoder, making one takes about 5 ms a passage that the encoder has not seen.
    """

    def __init__(self, passages: Sequence[Passage], lang: Lang, encoder: Encoder | None = None) -> None:
        self._lang, self._encoder = lang, encoder if lang == LANG else None
        spoken = [words(_all(passage), lang) for passage in passages]
        kept = [(passage, found) for passage, found in zip(passages, spoken, strict=True) if found]
        self._passages = [passage for passage, _ in kept]
        self._words = [frozenset(found) for _, found in kept]
        self._bm25 = bm25s.BM25(method="lucene")
        if kept:
            self._bm25.index([found for _, found in kept], show_progress=False)
        if kept and self._encoder:
            self._vectors = np.stack([self._encoder.passage(_all(passage)) for passage, _ in kept])

    def nearest(
        self,
        question: str,
        names: Sequence[str] = (),
        limit: int = 3,
        keep: Callable[[Passage], bool] = lambda _: True,
    ) -> list[Passage]:
        """The passages nearest to a question about what bears one of `names`, best first, at most `limit`.

        By its words a passage counts when it holds a whole name, or enough words of the question: see SHARE.
        By its meaning it counts from the cosine CLOSE on.
        """
        if not self._passages:
            return []
        kept = [i for i, passage in enumerate(self._passages) if keep(passage)]
        ranked = fused(self.by_words(question, names, kept), self.by_meaning(question, kept))
        return [self._passages[i] for i in ranked[:limit]]

    def by_words(self, question: str, names: Sequence[str], among: Sequence[int]) -> list[int]:
        """Places of passages by BM25, best first."""
        asked = set(words(question, self._lang))
        about = [frozenset(found) for name in names if (found := words(name, self._lang))]
        wanted = sorted(asked.union(*about))
        if not wanted:
            return []
        scores = self._bm25.get_scores(wanted)
        fits = [i for i in among if scores[i] > 0 and self._fits(i, asked, about)]
        ranked = sorted(fits, key=lambda i: (-scores[i], i))
        return [i for i in ranked if scores[i] >= NEAR * scores[ranked[0]]]

    def by_meaning(self, question: str, among: Sequence[int]) -> list[int]:
        """Places of passages by cosine, best first; none without an encoder."""
        if not self._encoder or not among or not question.strip():
            return []
        cosines = self._vectors @ self._encoder.question(question)
        return sorted((i for i in among if cosines[i] >= CLOSE), key=lambda i: (-cosines[i], i))

    def _fits(self, i: int, asked: set[str], about: Sequence[frozenset[str]]) -> bool:
        return _answers(asked, self._words[i], self._lang) or any(name <= self._words[i] for name in about)


def fused(by_words: Sequence[int], by_meaning: Sequence[int]) -> list[int]:
    """Both rankings as one: what stands high in either stands high, what stands in both higher."""
    scores: defaultdict[int, float] = defaultdict(float)
    for weight, ranking in ((WORDS, by_words), (MEANING, by_meaning)):
        for place, i in enumerate(ranking, 1):
            scores[i] += weight / (FUSION + place)
    return sorted(scores, key=lambda i: (-scores[i], i))


def takes_up(question: str, passage: Passage, lang: Lang, encoder: Encoder | None = None) -> bool:
    """Whether a passage speaks of the question itself; a label's name alone does not answer it."""
    if _answers(set(words(question, lang)), frozenset(words(_all(passage), lang)), lang):
        return True
    if not encoder or lang != LANG or not question.strip():
        return False
    return bool(encoder.question(question) @ encoder.passage(_all(passage)) >= QUOTABLE)


def _all(passage: Passage) -> str:
    return f"{passage.title}. {passage.text}"


def _answers(asked: set[str], spoken: frozenset[str], lang: Lang) -> bool:
    return bool(asked) and len(asked & spoken) >= min(2, ceil(len(asked) / SHARE[lang]))
