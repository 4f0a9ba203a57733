"""Where a text ends one sentence and begins the next, in the languages that we read."""

import re

SENTENCE = re.compile(r"(?<=[.!?。])\s+|\n+|(?<=[다요])\.\s*|;\s+")


def sentences(text: str) -> list[str]:
    return [sentence.strip() for sentence in SENTENCE.split(text) if sentence.strip()]
