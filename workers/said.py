"""What a reply says: its labels, numbers, language, and the words that a checked answer may not hold.

The lists are not the only guard: workers/grounding.py refuses every sentence that nothing supports.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from shared.catalog import PIPELINES, Lang
from shared.language import detect
from shared.sentences import sentences
from workers.grounding import well_supported
from workers.knowledge import library, named
from workers.prompt import Case
from workers.urgency import percent_of

ENOUGH_WORDS = 5  # below this many words a language cannot be told
HANGUL_SHARE = 0.6
DISTINCT_SHARE = 0.4  # of the words of a text of 20 or more

TREATMENT = re.compile(
    r"\b\d+([.,]\d+)? ?(mg|mcg|µg|g|ml|cc|iu|units?|drops?|comprim\w+|gouttes?)\b|밀리그램|밀리리터|\d+ ?(정|알|그램|방울)\b"
    r"|\b(cream|ointment|lotion|gel|tablet|pill|capsule|dose|dosage|antibiotic|steroid|cortiso|imiquimod|fluorouracil|retin|"
    r"isotretin|ibuprofen|paracetamol|acetaminophen|aspirin|chemo|vinegar|lemon|garlic|honey|tea tree|essential oil|baking soda|"
    r"bleach|peroxide|iodine|herbal|supplement|vitamin|medicine|medication|drug|prescri|kit\b|home remed|freeze|"
    r"burn it|cut it|scrape|apply|dab|rub|soak|massage|steam|inject)\w*"
    r"|\b(creme|pommade|gelule|cachet|posologie|antibiotique|cortiso|vinaigre|citron|\bail\b|miel|huile|bicarbonate|"
    r"javel|iode|plante|medicament|ordonnance|prescri|appliqu|frott|tampon|mass|brul(ez|er)|congel|produit|cure\b)\w*"
    r"|연고|크림|로션|알약|복용|용량|항생제|스테로이드|이미퀴모드|이부프로펜|아세트아미노펜|타이레놀|아스피린|식초|레몬|마늘|"
    r"꿀|오일|소다|표백|요오드|한약|영양제|비타민|약을|약국|처방|바르|발라|문지르|문질|찜질|얼려|태우|태워|주사|(알|약)을 드|mg"
)
CALMING = re.compile(
    r"nothing to worry|(no|not|n't)( \w+){0,3} (reason|need|cause|have) (to|for)( \w+)? ?(worry|concern|alarm|fear)|don't worry|do not worry|"
    r"(not|n't|no|isn't|never)( \w+){0,2} (cancer|dangerous|serious|malignant|harmful|life-threatening)|harmless|benign|\bsafe(ly)?\b|all clear|"
    r"(you|it|everything|that|this) (are|is|'s|'re) (\w+ )?(fine|ok|okay|healthy|normal|good)|reassur|relax|"
    r"rien (de grave|a craindre|d'inquietant)|aucune raison|(pas|jamais)( \w+){0,2} (cancer|danger\w*|grave|malin|serieux)|sans (danger|gravite)|"
    r"aucun danger|benin|inoffensi|tranquille|rassur|en bonne sante|tout va bien|ne vous inquiete|"
    r"걱정(하지|할 필요|은|하실|하지 않)|안심|(암|위험|심각)(이|한|하지|은|한 것이)?( 것)?( ?이)? ?(아니|아닙|않)|해롭지 않|무해|양성|안전|괜찮|이상 ?없|정상|건강"
)
POSTPONING = re.compile(
    r"\b(wait|ignore|forget (it|about)|leave it( alone)?|postpone|delay|put off|later|annual|yearly|next (year|visit|check)|see what happens|"
    r"months?|years?|weeks?)\b|(no|not|n't|without|unnecessary|never)( \w+){0,4} (need|necessary|appointment|require|see a doctor|visit|doctor|examin\w+|check)|keep an eye|"
    r"\b(attend|oubli|ignor|repouss|report|remett|laissez|plus tard|annuel|l'an prochain|mois\b|ans\b|un an\b|annees?|semaines?|voyez ce qui)\w*|inutile|"
    r"(pas|aucun|aucune|sans)( \w+){0,3} (besoin|necessaire|rendez-vous|consult|medecin|examen|visite)|surveill|"
    r"기다리|나중|내년|다음 (해|검진|방문)|개월|(한|두|여섯|몇) ?(달|해)|\d+ ?(달|년|주)|그냥 두|두고 보|무시|미루|병원에 (갈|가지)|진료(는|를)? ?(받지|필요)|필요(가|는)? ?없|지켜보"
)
# Of POSTPONING what a leaflet may not say beside a finding; that a result comes in a week it may.
WAITING = re.compile(
    r"\b(wait|ignore|forget (it|about)|leave it( alone)?|postpone|delay|put off|see what happens)\b|keep an eye|"
    r"(no|not|n't|without|unnecessary|never)( \w+){0,4} (need|necessary|appointment|require|see a doctor|doctor|examin\w+|check)|"
    r"\b(attend|oubli|ignor|repouss|remett|laissez)\w*|inutile|surveill|"
    r"(pas|aucun|aucune|sans)( \w+){0,3} (besoin|necessaire|rendez-vous|consult|medecin|examen)|"
    r"기다리|그냥 두|두고 보|무시|미루|병원에 (갈|가지)|진료(는|를)? ?(받지|필요)|필요(가|는)? ?없|지켜보"
)
CERTAIN = re.compile(
    r"\b(definite|certain|undoubted|without (a )?doubt|no doubt|guarante|for sure|absolutely|clearly (is|a)|beyond doubt|proven)\w*|\b100 ?%|you have (a )?(melanoma|cancer|basal)|"
    r"\b(certain|sans (aucun )?doute|a coup sur|assurement|garanti|indubitab|sur a 100|vous avez (un|le) (melanome|cancer|carcinome))\w*|"
    r"확실|장담|틀림없|분명(히|합|하)|의심할 여지|확진|보장"
)
# Diseases that no label of ours is; a passage may speak of them, a reply by itself may not.
DISEASE = re.compile(
    r"\b(squamous|spinocell|epidermoid|merkel|\w*sarcom|lymphom|leuk|leuc|psoria|eczem|lupus|rosace|\w*dermatit|vitiligo|wart|verru|mycos|"
    r"fung|herpes|shingles|zona\b|scab(ies)|gale\b|ringworm|teigne|lichen|cyst|kyst|absce|abces|metasta|impetig|acne|allerg|infect|"
    r"tumou?r|tumeur|ulcer|diabet|hiv\b|sida\b|syphil|tubercul|lepr|keloid|lipom|neurofibrom|hemangiom|pneumoni|fractur|hernia|hernie)\w*"
    r"|편평|육종|림프종|백혈병|건선|습진|루푸스|아토피|사마귀|무좀|대상포진|전이|주사비|백반|지방종|켈로이드|여드름|감염|알레르기|종양|당뇨|매독|결핵|폐렴|골절|탈장"
)
OTHER_SCRIPT = re.compile(r"[\u0400-\u05ff\u0600-\u0dff\u0e00-\u10ff\u3040-\u30ff\u3400-\u9fff]")
SCAFFOLDING = re.compile(
    r"[<>{}\[\]]|\bJSON\b|https?:|\b(system prompt|my instructions|지시문|consignes|balises)\b", re.I
)
NUMBER = re.compile(r"(\d+(?:[.,]\d+)?)\s*(%|퍼센트|percent|pour cent)?")


def loose(text: str) -> str:
    """For comparing: small letters, one kind of apostrophe and blank, composed characters."""
    text = unicodedata.normalize("NFKC", text.replace("’", "'").replace("\u202f", " ")).casefold()
    return re.sub(r"\s+", " ", text).strip()


def _bare(text: str) -> str:
    """As the lists are written: without accents, too."""
    apart = unicodedata.normalize("NFKD", loose(text))
    if apart.isascii():
        return apart
    return unicodedata.normalize("NFC", "".join(char for char in apart if not unicodedata.combining(char)))


def foreign(text: str, lang: Lang) -> bool:
    """Another language, another script, or scaffolding that no reader should see."""
    if OTHER_SCRIPT.search(text) or SCAFFOLDING.search(text):
        return True
    letters = [char for char in text if char.isalpha()]
    hangul = sum("가" <= char <= "힣" for char in letters)
    if lang == "ko":
        return hangul < HANGUL_SHARE * len(letters)
    return hangul > 0 or (len(text.split()) >= ENOUGH_WORDS and detect(text) != lang)


def labels_named(text: str, case: Case) -> set[str]:
    """Labels of the pipeline that the text calls by one of their names, in any language."""
    return named(text, case.pipeline, library())


def labels_told(case: Case) -> set[str]:
    """Labels that the passages speak of."""
    return set(_labels_of(case.pipeline, _told(case)))


def _told(case: Case) -> tuple[str, ...]:
    return tuple(passage.text for passage in case.passages)


# What passages say is the same for all texts of a reply, and for many replies.
@lru_cache(maxsize=64)
def _labels_of(pipeline: str, texts: tuple[str, ...]) -> frozenset[str]:
    return frozenset(named(" ".join(texts), pipeline, library()))


@lru_cache(maxsize=64)
def _numbers_of(texts: tuple[str, ...]) -> frozenset[str]:
    return frozenset(number for text in texts for number, _ in NUMBER.findall(loose(text)))


@lru_cache(maxsize=64)
def _bare_of(texts: tuple[str, ...]) -> str:
    return _bare(" ".join(texts))


def numbers_outside(text: str, case: Case) -> Iterator[str]:
    """Numbers that are neither a finding's percentage nor in a passage; a percentage must be its label's own."""
    given = _numbers_of(_told(case))
    own = {finding.label: percent_of(finding, case).rstrip("%") for finding in case.findings}
    for sentence in sentences(text):
        about = labels_named(sentence, case) & own.keys()
        allowed = {own[label] for label in about or own}
        for number, sign in NUMBER.findall(loose(sentence)):
            if number not in allowed and (sign or number not in given):
                yield number + ("%" if sign else "")


def of_treatment(text: str, case: Case) -> Iterator[str]:
    given = _bare_of(_told(case))
    for found in TREATMENT.finditer(_bare(text)):
        if found[0] not in given:
            yield found[0]


def other_diseases(text: str, case: Case) -> Iterator[str]:
    """Diseases that neither a passage nor a label's name speaks of."""
    names = (label.name(case.lang) for label in PIPELINES[case.pipeline].labels)
    given = _bare_of((*names, *(f"{passage.title} {passage.text}" for passage in case.passages)))
    return (found[0] for found in DISEASE.finditer(_bare(text)) if found[0] not in given)


def calming(text: str, case: Case) -> Iterator[str]:
    return _unsupported_words(CALMING, text, case)


def soothing(text: str) -> bool:
    """Whether a text calms, advises waiting or is sure of itself, whatever it is about."""
    return any(words.search(_bare(text)) for words in (CALMING, WAITING, CERTAIN))


def postponing(text: str, case: Case) -> Iterator[str]:
    return _unsupported_words(POSTPONING, text, case)


def certain(text: str, case: Case) -> Iterator[str]:
    return _unsupported_words(CERTAIN, text, case)


def _unsupported_words(words: re.Pattern[str], text: str, case: Case) -> Iterator[str]:
    """Words of a list, in sentences that no single statement of ours supports."""
    for sentence in sentences(text):
        for found in words.finditer(_bare(sentence)):
            if not well_supported(sentence, found[0], case):
                yield found[0]


def repeated(text: str) -> str | None:
    """A word twice in a row, or a long text of few different words."""
    words = re.findall(r"[^\W\d_]+", loose(text))
    for one, other in itertools.pairwise(words):
        if one == other and len(one) > 1:
            return f"{one} {other}"
    if len(words) >= 20 and len(set(words)) < DISTINCT_SHARE * len(words):
        return str(words[0])
    return None
