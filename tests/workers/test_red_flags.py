"""Red flags: what must be found, what must not be taken for danger, and what denials do."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.red_flags import RulesError, concepts, load, red_flags

DATA = Path(__file__).parents[1] / "answers_eval"


def emergency(text):
    return any(flag.urgency == "emergency" for flag in red_flags(text))


def scored(texts):
    """Sensitivity and specificity over (text, is an emergency)."""
    found = [(emergency(text), truth) for text, truth in texts]
    return tuple(
        sum(said is truth for said, true in found if true is truth) / sum(true is truth for _, true in found)
        for truth in (True, False)
    )


def half(name):
    lines = (DATA / f"red_flags_{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [(row["text"], row["emergency"]) for row in map(json.loads, lines)]


def practice():
    lines = (DATA / "red_flags_practice.txt").read_text(encoding="utf-8").splitlines()[1:]
    return [(text, kind == "1") for kind, text in (line.split("|", 1) for line in lines)]


@pytest.mark.parametrize("name", ["open", "locked"])
def test_no_emergency_is_missed_and_few_others_are_taken_for_one(name):
    sensitivity, specificity = scored(half(name))
    assert sensitivity == 1.0
    assert specificity >= 0.9


def test_the_practice_texts_hold():
    sensitivity, specificity = scored(practice())
    assert sensitivity >= 0.99
    assert specificity >= 0.97


@pytest.mark.parametrize(
    ("said", "denied"),
    [
        ("I have chest pain", "I have no chest pain"),
        ("He has chest pain and dyspnea", "He denies chest pain, dyspnea, or syncope"),
        ("She cannot breathe", "She breathes well"),
        ("chest pain for an hour, no cough", "no chest pain for an hour, cough"),
        ("I had chest pain again today", "I had chest pain five years ago"),
        ("no fever, but chest pain", "never any chest pain"),
        ("가슴 통증이 있고 열은 없어요", "가슴 통증은 없고 열이 있어요"),
        ("숨이 차요", "숨이 차지 않아요"),
        ("J'ai une douleur dans la poitrine, pas de fièvre", "Pas de douleur dans la poitrine"),
        ("Mon nez saigne depuis une heure", "Mon nez ne saigne pas"),
        ("What should I do? My chest hurts now", "What if it ever came to chest pain?"),
        ("I took all the pills because I want to die", "I am dying to know what this is"),
        ("Dad can hardly breathe", "I can hardly wait to breathe mountain air"),
        ("She is barely conscious", "She is fully conscious"),
        ("He has angina and it is bad now", "He takes tablets for angina"),
        ("Mon mari fait un infarctus", "Mon mari a fait un infarctus l'an dernier"),
        ("These are signs of a stroke: he drools", "What are the signs of a stroke?"),
        ("뇌졸중 증상 같아요, 지금 말이 어눌해요", "뇌졸중 증상이 뭐예요?"),
        ("Chest pain and a rash", "Pain round the chest and a rash in a band there"),
        ("I keep cutting myself", "I cut myself shaving"),
    ],
)
def test_a_danger_counts_when_it_is_said_and_not_when_it_is_denied(said, denied):
    assert emergency(said)
    assert not emergency(denied)


@pytest.mark.parametrize(
    "text",
    [
        "I don't know why my chest hurts",
        "not only fever but also chest pain",
        "no relief from the chest pain",
        "it won't stop bleeding",
        "im having chest pains, cant breath",
        "he cannot walk to the door without gasping",
        "elle ne peut pas monter une marche sans suffoquer",
    ],
)
def test_a_not_that_denies_nothing_hides_nothing(text):
    assert emergency(text)


def test_what_can_wait_a_day_is_told_from_what_cannot():
    assert [flag.urgency for flag in red_flags("My dog bit me")] == ["within_24h"]
    assert red_flags("My dog bit me and it won't stop bleeding")[0].urgency == "emergency"


def test_a_concept_may_be_spread_over_sentences():
    assert emergency("She is 34 weeks pregnant. Everything was fine. Since lunch there is bleeding.")


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=[]), max_size=300))
def test_no_text_can_break_it(text):
    assert isinstance(red_flags(text), tuple)
    assert isinstance(concepts(text), frozenset)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("rules.toml", '"emergency"', '"soon"', "unknown level"),
        ("rules.toml", '"stridor"', '"snoring"', "snoring, which words.toml lacks"),
        ("rules.toml", '"choking", ', "", "no rule uses choking"),
        ("words.toml", "[choking]", "[choking]\nde = []", "must have en, ko and fr"),
    ],
)
def test_broken_rules_are_refused_by_name(tmp_path, file, old, new, message):
    folder = Path(load.__wrapped__.__code__.co_filename).parent / "flags"
    for path in folder.iterdir():
        text = path.read_text(encoding="utf-8")
        (tmp_path / path.name).write_text(text.replace(old, new, 1) if path.name == file else text)
    with pytest.raises(RulesError, match=message):
        load(tmp_path)
