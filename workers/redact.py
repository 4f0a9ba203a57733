"""Takes out of a question what names a person, before it leaves for a language model.

Patterns find what is written in usual forms; they are no promise that nothing is left. Nothing else of the
job leaves: no file name, no metadata, no picture. `external=false` keeps the whole job in the house.
"""

import re

# In this order: a mail address would else lose its end to the pattern for a web address.
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("[mail]", re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")),
    ("[link]", re.compile(r"(?:https?://|www\.)\S+")),
    ("[account]", re.compile(r"(?<![\w@])@\w{2,}")),
    (
        "[date]",
        re.compile(
            r"\b(?:19|20)\d\d[./-]\d{1,2}[./-]\d{1,2}(?!\d)|\b\d{1,2}[./-]\d{1,2}[./-](?:19|20)\d\d(?!\d)"
        ),
    ),
    ("[date]", re.compile(r"(?:19|20)\d\d년 ?\d{1,2}월(?: ?\d{1,2}일)?")),
    # Resident registration, social security and card numbers, telephone numbers: seven digits and more.
    ("[number]", re.compile(r"(?<![\w.])\+?\(?\d(?:[ ().\-/]{0,2}\d){6,}(?!\d)")),
    (
        "[address]",
        re.compile(
            r"\b\d{1,5},? (?:[A-Z][\w'-]+ ){1,3}(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Boulevard|Blvd|Way|Court|Square)\b\.?"
            r"|\b\d{1,4}(?: ?bis| ?ter)?,? (?:rue|avenue|boulevard|chemin|place|allée|impasse|quai|route) (?:[\w'’-]+ ?){1,5}"
            r"|(?:[가-힣]{2,}(?:특별시|광역시|도|시) )?(?:[가-힣]+(?:시|군|구) )+[가-힣0-9]+(?:읍|면|동|로|길)(?: ?\d+(?:-\d+)?(?:번지|호|번길)?)*",
            re.IGNORECASE,
        ),
    ),
    ("[postcode]", re.compile(r"\b[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}\b")),
)
_CAPITAL = r"[A-ZÀ-Þ][\w'’-]+"
_NAMES = (
    re.compile(rf"\b(?P<before>(?i:my name is|i am called|call me|this is|je m[’']appelle|mon nom est|je suis) )(?P<name>{_CAPITAL}(?: {_CAPITAL}){{0,2}})"),
    re.compile(rf"\b(?P<before>(?:Mr|Mrs|Ms|Miss|Dr|Prof|M|Mme|Mlle|Pr|Madame|Monsieur|Doctor|Docteur)\.? )(?P<name>{_CAPITAL}(?: {_CAPITAL}){{0,2}})"),
    re.compile(r"(?P<before>(?:제|내|저의|환자) ?(?:이름|성함)(?:은|이|는|:)? ?)(?P<name>[가-힣]{2,4}?)(?=이고|입니다|이에요|예요|이며|,|\.|\s|$)"),
    re.compile(r"(?P<before>(?:저는|나는|전) )(?P<name>[김이박최정강조윤장임한오서신권황안송류전홍고문양손배백허유남심노하곽성차주우구][가-힣]{2})(?=입니다|이라고|이에요|라고|예요)"),
    re.compile(r"(?P<before>)(?P<name>[김이박최정강조윤장임한오서신권황안송류전홍고문양손배백허유남심노하곽성차주우구][가-힣]{2})(?=\s?(?:씨|님|선생님|원장|교수|환자|양|군)(?![가-힣]{2}))"),
)  # fmt: skip


def redacted(text: str) -> str:
    """The text with mail addresses, links, long numbers, dates, addresses and names replaced by their kind."""
    for kind, pattern in _PATTERNS:
        text = pattern.sub(kind, text)
    for pattern in _NAMES:
        text = pattern.sub(lambda found: f"{found['before']}[name]", text)
    return text
