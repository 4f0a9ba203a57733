"""What in a question tells of danger: rules over clinical concepts, in three languages.

The rules stand in `flags/rules.toml`, the words in `flags/words.toml`. They are no diagnosis and no triage
tool. They find what must not wait for an answer about a picture, and rather once too often than too seldom.
"""

import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, get_args

from shared.catalog import Urgency

FLAGS = Path(__file__).parent / "flags"
URGENCIES: tuple[Urgency, ...] = get_args(Urgency)  # most urgent first

BARE_NOT = re.compile(r"\b(ca|wo|do|does|did|is|was|has|have|could|would|are)nt\b")  # as people type it
# "Can hardly" is told as "cannot", so that the words need not say both.
HARDLY = re.compile(
    r"\b((can|could)|(am|is|are|was)(?= \w+ able)) (hardly|barely|scarcely|only just)( able to)?\b(?! (wait|contain|believe))"
)
A_PEINE = re.compile(r"\b(peux|peut|arrive|arrivons|parvient) (a peine|difficilement|tout juste)( a)?\b")

# Sayings that only sound like danger; blanked before anything is looked for.
SAYINGS = re.compile(
    r"dying (to|for|of (curiosity|boredom|hunger))|(is |are |was )?killing me\b(?! slowly)|(i'd|would|to) (kill|die) for"
    r"|stroke of|scared (me )?to death|takes? my breath away|breath-?taking|(almost|nearly) (had|gave me) a heart attack"
    r"|heart[- ]shaped|en forme de coeur|meur\w* d'(envie|impatience|ennui)|meur\w* de (faim|soif|rire|peur|chaud|froid)"
    r"|\b(me|nous) tue\b(?! (ce|demain|si))|tuerai\w* pour|mort\w* de (rire|peur|fatigue)"
    r"|(궁금|귀여워|답답|예뻐|보고 ?싶어|배고파|졸려|피곤해|심심해|웃겨|좋아|더워|추워|힘들어|바빠|지겨워) ?죽겠"
    r"|숨(이)? ?넘어가겠|심장 ?모양|배꼽 ?빠지"
)
# What looks like a denial and is none: the danger is still there.
NO_DENIALS = re.compile(
    r"(don't|do not|doesn't|didn't) (know|understand|want to wait|think i can|want to die)|not sure|no idea|not only"
    r"|no doubt|no relief|no improvement|not (getting |any |much )?better|not improv\w*|(doesn't|does not|didn't|isn't) (help|go away|improve|get better|let up)"
    r"|not going away|never (had|felt|experienced) (such|this|anything|so|pain like|one like)|no matter|no reason|not like (him|her|me)"
    r"|\b(can't|cannot|couldn't|unable to)( [\w'-]+){1,7} without|\b(ne |n')\w+( plus| pas)?( [\w'-]+){1,7} sans\b"
    r"|(haven't|hasn't|can't|cannot|couldn't|didn't) (slept|sleep|eat|eaten|work|go)|without (warning|stopping|cause|relief|any trauma)|not normal"
    r"|pas seulement|sans (arret|raison|prevenir)|ne sais (pas|plus)|n'arrete pas|ne passe pas|ne (va|vont) pas mieux|jamais (eu|ressenti) (aussi|si|une telle|un tel)"
    r"|pas normal|ne (comprends|dors) pas"
)
LISTED = re.compile(r"\b(denie[sd]|deny(ing)?|negative for|free of|nie(nt)?|absence of|absence de)\b")
DENIED = re.compile(
    r"\b(no|without|never|neither|nor|none|nothing|aucune?|sans|jamais|ni|pas d[e']|nulle?)\b|\brien n'|\bnon[- ]"
    r"|\bfear of\b|\bpeur (de|d')"
)
FORMER = re.compile(r"\b(former|previous|past|history of)\b|\bantecedents? d[e']")
NEGATED = re.compile(
    r"\bnot\b|(?<!ca)(?<!wo)\b\w+n't\b(?<!can't)(?<!won't)(?<!couldn't)|\b(ne|n')(?= ?\w+ (\w+ )?(pas|jamais|aucun|rien)\b)"
)
LONG_AGO = re.compile(
    r"\b(years?|months?|decades?) (ago|back|earlier)|\blong ago|\blast (year|month|week|summer|winter|spring)|\bin (19|20)\d\d"
    r"|\bas a (child|kid|teenager|boy|girl)|\bwhen i was (small|young|little|a)\b|\bused to\b|\bin the past\b|\bonce had\b|\bpreviously\b"
    r"|l'an (dernier|passe)|(ete|hiver|printemps|automne) (dernier|passe)|il y a (des|\w+) (ans|annees|mois)|\bautrefois\b|\bjadis\b|(annee|semaine|mois) derni|\bdans (le passe|mon enfance)"
    r"|\d+년 전|몇 년 전|오래전|예전|옛날|지난 ?(주|달|해)|작년|어릴 때|한 적이 있|개월 전에"
)
NOW = re.compile(
    r"\b(now|again|since|today|tonight|still|currently|right now|this (morning|evening|night))\b"
    r"|\b(maintenant|depuis|aujourd'hui|encore|ce soir|ce matin|cette nuit|toujours)\b|지금|오늘|방금|아직|다시|부터"
)
IMAGINED = re.compile(
    r"\bwhat (if|happens (if|when))\b|\bif (i|it|he|she) ever\b|\bin case\b|what (should|do|to do|can|must) .{0,20}\b(when|if) (a|one|someone|people|moles?|it)\b"
    r"|\b(can|could|does|do|will|would|might|is it (true|possible|normal)( that)?) (an? |the |removed |having |this |these |such )*(removed )?(moles?|melanomas?|cancers?|spots?|it|they|removal|biops\w+|cream|freckles?|warts?|lesions?)\b"
    r"|^(can|could|does|do|will) [\w-]+ ([\w-]+ )?(cause|lead to|give|trigger|mean|kill|hurt)\b|\bis there a (risk|chance)"
    r"|\bwhat (are|were|would be|could be) (the |some |typical |first |early |usual )*(warning )?(signs?|symptoms?) of\b"
    r"|\bquels? (sont|seraient|est) (les |le )?(premiers? )?(signes?|symptomes?) (d'|de|du|des)\b|(경색|졸중|출혈|마비|염|증|암) ?(의 )?증상(은|이|에는)? ?(뭐|무엇|어떤|어떻게)"
    r"|\brisk of\b|\bprevent|\bspread to\b|\bfor a (novel|story|film)"
    r"|que (faut-il )?faire (quand|si|en cas)|que faut-il faire|\bsi jamais\b|\ben cas d[e']|\b(peut|peuvent|pourrait)-(il|elle|on|ce|ils|elles|etre)\b|^(un|une|le|les|ces|cette|ce) (melanome|grain|tache|cancer|verrue).* (peut|peuvent|pourrait)\b|\best-ce qu(e|')( ?(ca|un|une|le|la|cela))|\brisque d[e']"
    r"|(나|하)면 어떻게 (해야|하나|하죠|되)|(지|면|하면|빼면|퍼지면|걸리면) .{0,14}(나요|까요|가요|죠)\b|혹시라도|만약|수 있나요|위험이"
)
PRESENT = re.compile(
    r"\b(i'm|i am|i have|i've|he is|she is|he's|she's|has been|have been|started|minutes?|hours?|suddenly|right now|since|this morning|today|tonight)\b"
    r"|\bmy \w+ (is|are|has|have|feels?|hurts?)\b|\b(j'ai|je suis|il est|elle est|depuis|minutes?|heures?|soudain\w*|ce matin|ce soir)\b|지금|방금|갑자기|분째|시간째|오늘|계속"
)
CLAUSE_END = re.compile(
    r"[.;:!?()]|\b(but|presents?|comes|however|though|although|yet|except|now|which|because|until|mais|cependant|maintenant|car|puis|then|who|when|while|quand|seulement|juste)\b"
    r"| et (?!d[eu'])|,? and (?=(he|she|i|it|my|his|her|they|we|the|has|is|now|can't|cannot|il|elle|je|j'|mon|ma|mes|son|sa|le|la|a)\b)"
    r"|, (?=(he|she|i|it|my|his|her|they|we|the|has|is|il|elle|je|j'|mon|ma|mes|son|sa|le|la|les|on|just|then|has|had|have|severe|sudden)\b)"
)
BREAK = re.compile(r"(?<!\d)[.](?!\d)|(?<=\d)[.](?=\s)|[!?;\n。…]+")
CLAUSE = re.compile(r",| (?:and|but|et|mais) |(?<=[고만데며])(?:,)? ")
KOREAN_DENIAL = re.compile(r"없|않|아니|안 |못 느")
KOREAN_CONNECTIVE = re.compile(
    r"(?<![없않])(고|며|지만|는데|은데|ㄴ데|면서|더니|어서|아서|니까)(\s|,|$)|[,.!?]"
)
KOREAN_TAIL = 16  # characters within which a denial still belongs to what it follows
WHO = frozenset(
    {"infant", "young_infant", "child"}
)  # whom it is about: a denial near it means something else
REACH = ((LISTED, 40), (DENIED, 9), (NEGATED, 5), (FORMER, 4))  # words that a denial reaches


class RulesError(ValueError):
    """The rule files cannot be used; the message names the rule or the concept."""


@dataclass(frozen=True)
class RedFlag:
    """A rule that a question met."""

    rule: str
    urgency: Urgency


@dataclass(frozen=True)
class Rule:
    id: str
    urgency: Urgency
    ways: tuple[tuple[frozenset[str], frozenset[str]], ...]  # concepts that must be there, and must not


Pattern = tuple[re.Pattern[str], ...]  # all of them within one sentence


@lru_cache(maxsize=1024)
def red_flags(question: str) -> tuple[RedFlag, ...]:
    """The rules that a question meets, most urgent first; empty for most questions. Never raises."""
    said = concepts(question)
    met = [RedFlag(rule.id, rule.urgency) for rule in load()[0] if _holds(rule, said)]
    return tuple(sorted(met, key=lambda flag: URGENCIES.index(flag.urgency)))


def concepts(question: str) -> frozenset[str]:
    """Which concepts of words.toml the text says of now, whatever language it is in."""
    sentences = [sentence for part in BREAK.split(plain(question)) if (sentence := part.strip())]
    told = [sentence for sentence in sentences if not _imagined(sentence)]
    words = load()[1]
    return frozenset(
        name for name, ways in words.items() if any(_said(ways, one, name in WHO) for one in told)
    )


def plain(text: str) -> str:
    """Small letters without accents, sayings blanked: what the patterns are written for."""
    bare = unicodedata.normalize("NFKD", text.replace("’", "'").replace("`", "'"))
    bare = "".join(char for char in bare if not unicodedata.combining(char))
    whole = BARE_NOT.sub(r"\1n't", unicodedata.normalize("NFC", bare).lower())
    whole = A_PEINE.sub("ne peut pas", HARDLY.sub("cannot", whole))
    return SAYINGS.sub(" ", whole)


def _holds(rule: Rule, said: frozenset[str]) -> bool:
    return any(needed <= said and not (barred & said) for needed, barred in rule.ways)


def _imagined(sentence: str) -> bool:
    """A question about what might be, with nothing in it that is."""
    return IMAGINED.search(sentence) is not None and PRESENT.search(sentence) is None


def _said(ways: Sequence[Pattern], sentence: str, undeniable: bool) -> bool:
    return any(all(_meant(part, sentence, undeniable) for part in pattern) for pattern in ways)


def _meant(part: re.Pattern[str], sentence: str, undeniable: bool) -> bool:
    return any(undeniable or not _denied(match, sentence) for match in part.finditer(sentence))


def _denied(match: re.Match[str], sentence: str) -> bool:
    start, end = match.span()
    return any(low <= start < high for low, high in _denials(sentence, start, end)) or _korean_denial(
        sentence, end
    )


def _denials(sentence: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """What the denials before a match reach; one inside the match belongs to it, as in "won't stop"."""
    text = NO_DENIALS.sub(lambda found: "_" * len(found[0]), sentence)
    for cue, words in REACH:
        for found in cue.finditer(text, 0, end):
            if not start <= found.start() < end:
                yield found.end(), found.end() + _reach(text[found.end() :], words, cue is LISTED)
    low, high = _clause(sentence, start)
    if LONG_AGO.search(sentence[low:high]) and not NOW.search(sentence[low:high]):
        yield low, high


def _reach(rest: str, words: int, listed: bool) -> int:
    """Characters up to the end of the clause, or so many words; a list's commas do not end it."""
    counted = re.match(rf"(?:\W*[\w'-]+){{0,{words}}}", rest)
    limit = counted.end() if counted else 0
    ended = (
        re.search(r"[.;:!?()]|\b(but|however|mais|presents?|now)\b", rest)
        if listed
        else CLAUSE_END.search(rest)
    )
    limit = min(limit, ended.start()) if ended else limit
    comma = rest.find(",", 0, limit)
    if not listed and comma >= 0 and not re.search(r"\b(or|nor|ou|ni)\b", rest[comma:limit]):
        limit = comma
    return limit


def _clause(sentence: str, at: int) -> tuple[int, int]:
    ends = [0, *(found.end() for found in CLAUSE.finditer(sentence)), len(sentence)]
    return max(end for end in ends if end <= at), min(end for end in [*ends, len(sentence)] if end > at)


def _korean_denial(sentence: str, end: int) -> bool:
    tail = sentence[end : end + KOREAN_TAIL]
    denial, connective = KOREAN_DENIAL.search(tail), KOREAN_CONNECTIVE.search(tail)
    if denial is None or not re.match(r"[가-힣\s]*$", tail[: denial.start()]):
        return False
    return connective is None or denial.start() < connective.start()


@cache
def load(folder: Path = FLAGS) -> tuple[tuple[Rule, ...], Mapping[str, tuple[Pattern, ...]]]:
    """Rules and words, read once; an entry point makes the first call before it serves.

    Raises: RulesError
    """
    words = {name: tuple(_patterns(name, table)) for name, table in _read(folder / "words.toml").items()}
    rules = tuple(_rule(table, words) for table in _read(folder / "rules.toml").get("rule", ()))
    used = frozenset().union(*(needed | barred for rule in rules for needed, barred in rule.ways))
    if unused := words.keys() - used:
        raise RulesError(f"words.toml: no rule uses {', '.join(sorted(unused))}")
    return rules, words


def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _rule(table: Mapping[str, Any], words: Mapping[str, Any]) -> Rule:
    if table["level"] not in URGENCIES:
        raise RulesError(f"rules.toml: {table['id']} has the unknown level {table['level']!r}")
    rule = Rule(table["id"], table["level"], tuple(_way(line) for line in table["when"]))
    for needed, barred in rule.ways:
        if unknown := (needed | barred) - words.keys():
            raise RulesError(
                f"rules.toml: {rule.id} uses {', '.join(sorted(unknown))}, which words.toml lacks"
            )
    return rule


def _way(line: str) -> tuple[frozenset[str], frozenset[str]]:
    needed, *barred = line.split(" - ")
    return frozenset(needed.split(" + ")), frozenset(barred)


def _patterns(name: str, table: Mapping[str, Sequence[str]]) -> Iterator[Pattern]:
    if set(table) != {"en", "ko", "fr"}:
        raise RulesError(f"words.toml: {name} must have en, ko and fr")
    for lang, lines in table.items():
        before = "" if lang == "ko" else r"(?<!\w)"
        for line in lines:
            yield tuple(re.compile(f"{before}(?:{_any_word(part)})") for part in line.split(" & "))


def _any_word(part: str) -> str:
    """Between the words of a pattern there may be commas, apostrophes and hyphens."""
    return part.replace(r"( \w+)", r"(,? [\w'-]+)").replace(r"(\w+ )", r"([\w'-]+,? )")
