"""Which of our languages a question is written in."""

import re
import unicodedata

from shared.catalog import Lang

LETTERS_TO_A_SYLLABLE = 3  # what a Hangul syllable weighs against Latin letters in a mixed question

# Words that the other language hardly has; "on", "a", "me", "son" and the like belong to both.
FRENCH = frozenset(
    [
        "le",
        "la",
        "les",
        "un",
        "une",
        "du",
        "est",
        "et",
        "que",
        "qu",
        "qui",
        "quoi",
        "quel",
        "quelle",
        "je",
        "j",
        "ai",
        "il",
        "elle",
        "c",
        "ce",
        "cet",
        "cette",
        "ça",
        "ma",
        "mon",
        "mes",
        "ne",
        "n",
        "pas",
        "sur",
        "dans",
        "pour",
        "par",
        "avec",
        "sans",
        "depuis",
        "dois",
        "faut",
        "suis",
        "sont",
        "au",
        "aux",
        "l",
        "d",
        "y",
        "comment",
        "pourquoi",
        "quand",
        "bonjour",
        "merci",
        "dangereux",
        "grave",
        "bouton",
        "tache",
        "peau",
        "grain",
        "beauté",
        "médecin",
    ]
)
ENGLISH = frozenset(
    [
        "the",
        "an",
        "is",
        "it",
        "its",
        "this",
        "that",
        "these",
        "my",
        "what",
        "i",
        "and",
        "of",
        "to",
        "in",
        "have",
        "has",
        "had",
        "should",
        "be",
        "been",
        "can",
        "could",
        "how",
        "with",
        "for",
        "are",
        "am",
        "do",
        "does",
        "did",
        "not",
        "you",
        "your",
        "there",
        "when",
        "why",
        "who",
        "will",
        "would",
        "hello",
        "skin",
        "mole",
        "spot",
        "doctor",
    ]
)
_WORD = re.compile(r"[^\W\d_]+")
_FRENCH_LETTER = re.compile("[àâçéèêëîôùûœ]")  # not ï: English writes naïve


def detect(text: str) -> Lang:
    """Korean by its share of Hangul, French by its function words and accents, else English.

    A question with no hint of either is English. Never raises, whatever the text holds.
    """
    text = unicodedata.normalize("NFC", text).lower()
    hangul = sum("가" <= char <= "힣" or "ㄱ" <= char <= "ㆎ" for char in text)
    latin = sum(char.isalpha() and "LATIN" in unicodedata.name(char, "") for char in text)
    if hangul and hangul * LETTERS_TO_A_SYLLABLE >= latin:
        return "ko"
    return "fr" if _frenchness(text) > 0 else "en"


def _frenchness(text: str) -> int:
    """French words minus English ones; an accent counts as a word."""
    words = _WORD.findall(text)
    french = sum((word in FRENCH) + bool(_FRENCH_LETTER.search(word)) for word in words)
    return french - sum(word in ENGLISH for word in words)
