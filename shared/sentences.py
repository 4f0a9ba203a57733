"""Where a text ends one sentence and begins the next, in the languages that we read."""

import re

SENTENCE = re.compile(r"(?<=[.!?。])\s+|\n+|(?<=[다요])\.\s*|;\s+")
WHOLE = re.compile(r"(?<=[.!?。])\s+|\n+")


def sentences(text: str) -> list[str]:
    """What is said one by one, to be compared; parts of a sentence count, and a full stop may be lost."""
    return [sentence.strip() for sentence in SENTENCE.split(text) if sentence.strip()]


def whole_sentences(text: str) -> list[str]:
    """Sentences to the letter, to be quoted."""
    return [sentence.strip() for sentence in WHOLE.split(text) if sentence.strip()]
