import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.catalog import LANGUAGES, PIPELINES
from shared.schemas import Finding, Grade, Segment, Warning
from shared.tables import JobRow
from workers.answer import case_of
from workers.knowledge import library, retrieve
from workers.phrases import PHRASES
from workers.prompt import Case, build_prompt
from workers.reference import reference_answer
from workers.urgency import URGENCIES, floor

SKIN = [label.code for label in PIPELINES["skin"].labels]
MELANOMA = {"en": "melanoma", "ko": "흑색종", "fr": "mélanome"}
UNREVIEWED = {
    "en": "not reviewed by a clinician",
    "ko": "임상의의 검토를 받지 않",
    "fr": "pas été relus par un clinicien",
}
NO_MODEL = {
    "en": "No language model was used",
    "ko": "언어 모델을 쓰지 않았습니다",
    "fr": "Aucun modèle de langage",
}
UNDECIDED = {"en": "could not decide", "ko": "판단하지 못했습니다", "fr": "n'a pas pu décider"}
BLURRED = Warning(code="low_quality", detail="")
STRANGE = Warning(code="out_of_distribution", detail="")


def case(flagged=(), lang="en", question="", warnings=(), pipeline="skin", **probabilities):
    rest = (1 - sum(probabilities.values())) / max(1, len(SKIN) - len(probabilities))
    findings = tuple(
        Finding(
            label=code, name="x", probability=probabilities.get(code, rest), above_threshold=code in flagged
        )
        for code in SKIN
        if pipeline == "skin"
    )
    passages = tuple(retrieve(pipeline, findings, question, lang))
    return Case(pipeline, question, lang, 45, "female", "back", findings, tuple(warnings), passages)


def answer(one):
    return reference_answer(one, build_prompt(one))


@pytest.mark.parametrize("lang", LANGUAGES)
def test_melanoma_is_said_first_with_its_percentage_and_what_to_do(lang):
    said = answer(case(["mel"], lang, mel=0.81, nv=0.12))
    first = said.text.split("\n\n")[0]
    assert MELANOMA[lang] in first
    assert "81" in first
    assert said.urgency == "within_days"
    assert said.next_step in said.text
    assert said.department == {"en": "Dermatology", "ko": "피부과", "fr": "Dermatologie"}[lang]
    assert said.source == "reference"
    assert said.model is None


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("code", SKIN)
def test_mel_is_called_melanoma_and_nothing_else_is(lang, code):
    others = [
        name for label in PIPELINES["skin"].labels if label.code != "mel" for name in (label.ko, label.fr)
    ]
    first = answer(case([code], lang, **{code: 0.99})).text.split("\n\n")[0].casefold()
    if code == "mel":
        assert MELANOMA[lang] in first
        assert not any(name.casefold() in first for name in [*others, "dermatofibroma"])
    else:
        assert MELANOMA[lang] not in first


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("code", SKIN)
def test_every_answer_says_what_it_is_not(lang, code):
    text = answer(case([code], lang, **{code: 0.95})).text
    assert NO_MODEL[lang] in text
    assert UNREVIEWED[lang] in text
    assert PHRASES[lang].hint in text


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("flagged", [["mel"], []])
def test_what_the_findings_include_is_said_to_be_in_them_and_nothing_else_is(lang, flagged):
    told = PHRASES[lang].told
    some = dataclasses.replace(case(flagged, lang, mel=0.6), included=("age", "site"))
    said = PHRASES[lang].included.format(names=f"{told['age']}, {told['site']}")
    assert said in answer(some).text
    assert PHRASES[lang].included.split("{")[0] not in answer(case(flagged, lang, mel=0.6)).text
    strange = dataclasses.replace(some, warnings=(STRANGE,))
    assert said not in answer(strange).text  # there is no result


@pytest.mark.parametrize("lang", LANGUAGES)
def test_nothing_above_threshold_is_said_so_and_calms_nobody(lang):
    said = answer(case([], lang, bkl=0.3, akiec=0.25, bcc=0.2))
    assert UNDECIDED[lang] in said.text
    assert said.urgency == "routine"
    assert not [citation for citation in said.citations if citation.id.endswith(("/what", "/see_whom"))]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_doubts_about_the_picture_are_said(lang):
    assert PHRASES[lang].low_quality in answer(case(["nv"], lang, warnings=[BLURRED], nv=0.97)).text
    assert PHRASES[lang].out_of_distribution in answer(case(["nv"], lang, warnings=[STRANGE], nv=0.97)).text


def test_a_clear_picture_raises_no_doubts():
    text = answer(case(["nv"], nv=0.97)).text
    assert PHRASES["en"].low_quality not in text
    assert PHRASES["en"].out_of_distribution not in text


@pytest.mark.parametrize(
    ("probability", "words"),
    [
        (0.999, "very sure of this (more than 99%)"),
        (0.9, "very sure of this (90%)"),
        (0.7, "fairly sure of this (70%)"),
        (0.5, "not very sure of this (50%)"),
        (0.49, "unsure of this (49%)"),
    ],
)
def test_how_sure_it_is_in_words_and_percent(probability, words):
    assert words in answer(case(["nv"], nv=probability)).text


def test_no_certainty_is_ever_a_hundred_or_nought_percent():
    assert "100%" not in answer(case(["nv"], nv=1.0)).text
    assert "(less than 1%)" in answer(case(["nv", "mel"], nv=0.98, mel=0.001)).text


def test_melanoma_below_another_finding_decides_what_to_do():
    said = answer(case(["nv", "mel"], nv=0.58, mel=0.27, bkl=0.1))
    first = said.text.split("\n\n")[0]
    assert first.index("mole") < first.index("melanoma (27%)")
    assert PHRASES["en"].low_bar in first
    assert "harmless keratosis or age spot: 10%" in first
    assert said.urgency == "within_days"
    assert {c.id for c in said.citations} == {
        "skin/nv/what",
        "skin/mel/what",
        "skin/mel/see_whom",
        "skin/mel/not_to_do",
    }


def test_a_likely_label_below_its_threshold_is_named_before_an_unlikely_one_above():
    first = answer(case(["mel"], nv=0.7, mel=0.2)).text.split("\n\n")[0]
    assert first.startswith(
        "The picture looks most like mole (melanocytic nevus) (70%), but not clearly enough"
    )
    assert "melanoma (20%)" in first


@pytest.mark.parametrize(
    ("flagged", "probabilities", "warnings", "level"),
    [
        (["nv"], {"nv": 0.97}, [], "self_care"),
        (["df"], {"df": 0.97}, [], "self_care"),
        (["nv"], {"nv": 0.89}, [], "routine"),
        (["nv"], {"nv": 0.97}, [BLURRED], "routine"),
        (["nv"], {"nv": 0.97}, [STRANGE], "routine"),
        (["vasc"], {"vasc": 0.97}, [], "routine"),
        (["bcc"], {"bcc": 0.97}, [], "routine"),
        (["akiec"], {"akiec": 0.97}, [], "routine"),
        (["nv", "bcc"], {"nv": 0.97, "bcc": 0.02}, [], "routine"),
        (["nv", "mel"], {"nv": 0.97, "mel": 0.02}, [], "within_days"),
        ([], {"nv": 0.97}, [], "routine"),
    ],
)
def test_how_soon_follows_from_the_findings(flagged, probabilities, warnings, level):
    assert answer(case(flagged, warnings=warnings, **probabilities)).urgency == level


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_label_without_a_text_of_ours_is_said_to_have_none(lang):
    one = case(["nv", "mel"], lang, nv=0.7, mel=0.2)
    names = [PIPELINES["skin"].label(code).name(lang) for code in ("nv", "mel")]
    assert "{names}" not in answer(one).text
    assert PHRASES[lang].no_text.split("{")[0] not in answer(one).text
    half = dataclasses.replace(one, passages=tuple(p for p in one.passages if p.label == "mel"))
    assert PHRASES[lang].no_text.format(names=names[0]) in answer(half).text
    bare = dataclasses.replace(one, passages=())
    assert PHRASES[lang].no_text.format(names=", ".join(names)) in answer(bare).text


def test_what_is_not_interpreted_needs_no_text():
    one = dataclasses.replace(case(["nv"], warnings=[STRANGE], nv=0.97), passages=())
    assert "no text" not in answer(one).text


def test_melanoma_above_threshold_keeps_its_floor_without_any_text():
    one = dataclasses.replace(case(["mel"], mel=0.3), passages=())
    assert floor(one) == "within_days"
    assert answer(one).citations == []


def test_melanoma_above_threshold_keeps_its_floor_whatever_a_text_says():
    one = case(["mel"], mel=0.99)
    calm = tuple(dataclasses.replace(passage, urgency="self_care") for passage in one.passages)
    assert floor(dataclasses.replace(one, passages=calm)) == "within_days"


@given(
    st.lists(st.floats(0.001, 1), min_size=7, max_size=7),
    st.sets(st.sampled_from(SKIN)),
    st.sampled_from(LANGUAGES),
    st.booleans(),
)
def test_any_findings_give_an_answer_whose_quotes_stand_in_its_passages(weights, flagged, lang, blurred):
    probabilities = {code: weight / sum(weights) for code, weight in zip(SKIN, weights, strict=True)}
    one = case(flagged, lang, warnings=[BLURRED] if blurred else [], **probabilities)
    said = answer(one)
    passages = {passage.id: passage for passage in one.passages}
    for citation in said.citations:
        assert citation.quote in passages[citation.id].text
        assert citation.quote in said.text
        assert citation.url.startswith("https://")
        assert citation.reviewed_by is None
    if "mel" in flagged:
        assert URGENCIES.index(said.urgency) <= URGENCIES.index("within_days")
        assert MELANOMA[lang] in said.text.split("\n\n")[0]
    assert not re.search(r"[{}]|  |None", said.text)
    assert len(said.text) < 6_000


def test_a_citation_names_its_source():
    said = answer(case(["mel"], mel=0.9))
    assert (
        said.citations[0].title == "US National Cancer Institute: Melanoma Treatment (PDQ®)–Patient Version"
    )
    assert said.citations[0].url == "https://www.cancer.gov/types/skin/patient/melanoma-treatment-pdq"


def test_a_clinician_who_signs_is_named():
    one = case(["mel"], mel=0.9)
    signed = tuple(dataclasses.replace(passage, reviewed_by="Dr Kim") for passage in one.passages)
    said = answer(dataclasses.replace(one, passages=signed))
    assert "reviewed by Dr Kim." in said.text
    assert UNREVIEWED["en"] not in said.text
    assert {citation.reviewed_by for citation in said.citations} == {"Dr Kim"}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_question_that_it_cannot_take_up_is_told_so(lang):
    assert PHRASES[lang].question in answer(case(["nv"], lang, "Can I swim?", nv=0.97)).text
    assert PHRASES[lang].question not in answer(case(["nv"], lang, " ", nv=0.97)).text


def test_the_question_itself_is_never_echoed():
    assert "<script>" not in answer(case(["nv"], question="<script>", nv=0.97)).text


def test_what_a_picture_cannot_tell_is_listed():
    said = answer(case(["nv"], nv=0.97))
    assert len(said.cannot_tell) == 3
    assert "7 kinds of finding" in said.cannot_tell[2]
    assert all(line in said.text for line in said.cannot_tell)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_pipeline_without_findings_or_texts_still_gets_an_honest_answer(lang):
    said = answer(case(lang=lang, pipeline="chest-xray"))
    assert said.text.startswith(PHRASES[lang].nothing)
    assert (said.urgency, said.department, said.citations) == ("routine", None, [])


def test_why_no_language_model_was_used_is_recorded():
    one = case(["nv"], nv=0.97)
    assert reference_answer(one, build_prompt(one), "external is false").refused_reason == "external is false"


def test_the_prompt_version_is_recorded():
    one = case(["nv"], nv=0.97)
    prompt = build_prompt(one)
    assert (answer(one).prompt.name, answer(one).prompt.sha256) == (prompt.name, prompt.sha256)


DANGER = {"en": "It won't stop bleeding", "ko": "피가 안 멈춰요", "fr": "Ça saigne et ça ne s'arrête pas"}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_danger_in_the_question_comes_before_everything_else(lang):
    said = answer(case(["nv"], lang, DANGER[lang], nv=0.97))
    assert said.text.startswith(PHRASES[lang].emergency)
    assert said.urgency == "emergency"
    assert said.next_step == PHRASES[lang].next_steps["emergency"]


def test_who_thinks_of_suicide_is_told_whom_to_call():
    assert "988" in answer(case(["nv"], question="I want to die", nv=0.97)).text
    assert "988" not in answer(case(["nv"], question=DANGER["en"], nv=0.97)).text


def test_what_can_wait_a_day_raises_the_urgency_without_an_alarm():
    said = answer(case(["nv"], question="My dog bit me", nv=0.97))
    assert said.urgency == "within_24h"
    assert said.text.startswith(PHRASES["en"].soon)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_picture_of_something_else_is_not_interpreted(lang):
    said = answer(case(["nv"], lang, warnings=[STRANGE], nv=0.97))
    assert said.refused_reason == "The picture is unlike those that the network learned from."
    assert PHRASES[lang].no_result in said.text
    assert said.citations == []
    assert "97" not in said.text
    assert said.urgency == "routine"


def test_a_refusal_says_why():
    assert answer(case([], nv=0.4)).refused_reason == "No finding passes its threshold."
    assert answer(case(["nv"], nv=0.97)).refused_reason is None


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_phrase_is_written_in_its_language(lang):
    phrases = dataclasses.asdict(PHRASES[lang])
    steps = phrases.pop("next_steps")
    assert set(steps) == set(URGENCIES)
    sentences = [
        *steps.values(),
        *phrases["sure"],
        *phrases["cannot_tell"],
        phrases["hint"],
        phrases["neither"],
    ]
    assert all(bool(re.search("[가-힣]", sentence)) == (lang == "ko") for sentence in sentences)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_pipeline_that_measures_says_what_it_measured(lang):
    area = Segment(
        label="left_lung", name="Left lung", area_px=250, area_fraction=0.25, bbox=(0, 0, 10, 25),
        mean_probability=0.9, position="centre",
    )  # fmt: skip
    grade = Grade(
        condition="dandruff", name="Dandruff", grade=2, grade_name="moderate", probabilities=[0, 0, 1, 0]
    )
    chest = dataclasses.replace(case(lang=lang, pipeline="chest-xray"), segments=(area,))
    scalp = dataclasses.replace(case(lang=lang, pipeline="scalp"), grades=(grade,))
    for one, words in ((chest, ("Left lung", "25")), (scalp, ("Dandruff", "moderate"))):
        first = answer(one).text.split("\n\n")[0]
        assert PHRASES[lang].nothing not in first
        assert all(word in first for word in words)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("pipeline", ["chest-xray", "abdominal-xray", "scalp"])
def test_away_from_the_skin_nobody_is_sent_to_have_a_spot_looked_at(lang, pipeline):
    said = answer(case(lang=lang, pipeline=pipeline))
    assert said.next_step == PHRASES[lang].elsewhere
    assert said.next_step in said.text
    assert not re.search("dermatolog|피부과|spot|tache|반점", said.text.casefold())
    assert answer(case(lang=lang, pipeline=pipeline, question=DANGER[lang])).urgency == "emergency"


def test_nobody_is_told_of_two_weeks_in_an_emergency():
    assert "two weeks" in answer(case(["mel"], mel=0.9)).text
    assert "two weeks" not in answer(case(["mel"], question=DANGER["en"], mel=0.9)).text


def measured(pipeline, lang, labels, question=""):
    """The answer to a picture in which these labels were outlined or graded 2."""
    segments = [
        {"label": code, "name": code, "area_px": 9, "area_fraction": 0.1, "bbox": [0, 0, 3, 3], "mean_probability": 0.9,
         "position": "centre"}
        for code in labels
    ]  # fmt: skip
    grades = [
        {
            "condition": code,
            "name": code,
            "grade": 2,
            "grade_name": "x",
            "probabilities": [0.1, 0.1, 0.7, 0.1],
        }
        for code in labels
    ]
    graded = PIPELINES[pipeline].heads[0].kind == "grade"
    row = JobRow(
        id="a", pipeline=pipeline, question=question, lang=lang, segments=None if graded else segments,
        grades=grades if graded else None,
    )  # fmt: skip
    return answer(case_of(row))


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize(
    ("pipeline", "code"),
    [(name, label.code) for name in PIPELINES if name != "skin" for label in PIPELINES[name].labels[1:]],
)
def test_what_was_measured_is_explained_by_its_text(lang, pipeline, code):
    said = measured(pipeline, lang, [code])
    text = library()[pipeline, code]
    assert {citation.id for citation in said.citations} == {
        f"{pipeline}/{code}/{topic}" for topic in ("what", "see_whom", "not_to_do")
    }
    assert all(citation.quote in said.text for citation in said.citations)
    assert said.department == text.department[lang]
    assert UNREVIEWED[lang] in said.text


@pytest.mark.parametrize(
    ("labels", "level"),
    [
        (["constipation"], "routine"),
        (["constipation", "air_fluid_level"], "within_24h"),
        (["pyloric_stenosis"], "within_24h"),
        (["constipation", "pneumoperitoneum"], "emergency"),
        ([], "routine"),
    ],
)
def test_the_most_urgent_thing_that_was_outlined_decides_how_soon(labels, level):
    said = measured("abdominal-xray", "en", labels)
    assert (said.urgency, said.next_step in said.text) == (level, True)
    worst = labels[-1] if labels else "normal"
    assert {citation.id.split("/")[1] for citation in said.citations} == {worst}


def test_free_air_keeps_its_floor_whatever_a_text_says():
    one = case(pipeline="abdominal-xray")
    area = Segment(
        label="pneumoperitoneum", name="x", area_px=9, area_fraction=0.1, bbox=(0, 0, 3, 3), mean_probability=0.9,
        position="centre",
    )  # fmt: skip
    assert floor(dataclasses.replace(one, segments=(area,), passages=())) == "emergency"
