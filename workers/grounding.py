"""What a sentence rests on: the share of its words that passages, findings and our own phrases hold."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from shared.catalog import PIPELINES, Lang
from shared.sentences import sentences
from workers.phrases import PHRASES
from workers.prompt import Case
from workers.urgency import URGENCIES, already_weighed, floor, percent

ENOUGH = 0.6  # of a sentence's words, from the two statements that fit it best
ALMOST_ALL = 0.8  # for words that calm, postpone or are sure of themselves: from one statement alone
FEW = 4  # claiming words; fewer fit into too many statements
STEM = 5  # letters of a Latin word that have to agree; syllables of a Korean one: 2

# Words that carry no claim, and those in which any answer speaks of a picture and its result.
_EMPTY = """
    the and that this these those with for from are was were has have had been being will would can could may
    might should its it's your you one any some than then them they there their what which who how also very more
    most not but about into over such only please because therefore while when where after before does did here
    picture image program programme classifier result finding suggests suggest names name named thinks think shows
    show looks look likely possible probability percent sure fairly spot mark person question answer
    les des une est sont dans pour par avec sur qui que quoi ces cette cet son ses leur vous votre nous elle ils
    aux mais donc car plus tres pas peut etre fait faites comme ainsi aussi cela celle celui
    resultat retient suggere montre probable tache reponse
    그리고 그러나 하지만 또는 이것 그것 있습 없습 합니 입니 됩니 때문 경우 대한 또한 매우 가장 사진 프로 결과 가능 소견 질문
    것은 것입 보입 비슷 나온 높다 높은 높습 이며 으로 하면
"""


EMPTY = frozenset(word[:n] for word in _EMPTY.split() for n in (len(word), STEM))


def unsupported(text: str, case: Case) -> Iterator[str]:
    """Sentences that say what nothing of the case says."""
    known = _statements(case)
    for sentence in sentences(text):
        words = content(sentence, case.lang)
        if words and _share_of_two(words, known) < ENOUGH:
            yield sentence


def well_supported(sentence: str, claim: str, case: Case) -> bool:
    """One statement of ours alone holds nearly all that the sentence says, and the claim to the letter.

    Of a short sentence it must hold every word, in order. Texts that an operator added do not count: what is
    said of one disease in a leaflet must calm nobody about another.
    """
    case = replace(case, passages=tuple(passage for passage in case.passages if not passage.added))
    words = content(sentence, case.lang)
    if len(words) < FEW:
        return any(_letters(sentence) in _letters(text) for text in _texts(case))
    return any(
        len(words & statement) >= ALMOST_ALL * len(words) and _letters(claim) in _letters(text)
        for statement, text in zip(_statements(case), _texts(case), strict=True)
    )


def _letters(text: str) -> str:
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in apart if char.isalnum())


def _share_of_two(words: frozenset[str], known: tuple[frozenset[str], ...]) -> float:
    best = max(known, key=lambda statement: len(words & statement))
    left = words - best
    return (len(words & best) + max(len(left & statement) for statement in known)) / len(words)


def _statements(case: Case) -> tuple[frozenset[str], ...]:
    return _stems(tuple(_texts(case)), case.lang)


@lru_cache(maxsize=64)
def _stems(texts: tuple[str, ...], lang: Lang) -> tuple[frozenset[str], ...]:
    return tuple(content(text, lang) for text in texts)


def _texts(case: Case) -> Iterator[str]:
    """Every sentence that an answer to this case may rest on."""
    say, lowest = PHRASES[case.lang], URGENCIES.index(floor(case))
    for passage in case.passages:
        yield from (f"{passage.title} {quote.text}" for quote in passage.quotes)
    for finding in case.findings:
        name = PIPELINES[case.pipeline].label(finding.label).name(case.lang)
        yield f"{name} {say.suggests} {percent(finding.probability, case)}"
    yield from (text for text in [already_weighed(case)] if text)
    yield from (text for level, text in say.next_steps.items() if URGENCIES.index(level) <= lowest)
    yield from (
        *say.cannot_tell,
        say.hint,
        say.low_quality,
        say.out_of_distribution,
        say.low_bar,
        say.mention,
    )


def content(text: str, lang: Lang) -> frozenset[str]:
    """The stems of the words that claim something."""
    bare = unicodedata.normalize("NFKD", text.replace("’", "'").casefold())
    plain = unicodedata.normalize("NFC", "".join(c for c in bare if not unicodedata.combining(c)))
    if lang == "ko":
        words = (word[:2] for word in re.findall(r"[가-힣]{2,}", plain))
        latin = (word[:STEM] for word in re.findall(r"[a-z]{3,}", plain))
        return frozenset(word for word in (*words, *latin) if word not in EMPTY)
    return frozenset(word[:STEM] for word in re.findall(r"[^\W\d_]{3,}", plain) if word not in EMPTY)
