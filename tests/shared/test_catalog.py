"""Codes and names of every label, restated from ../shared/design/CONTRACTS.md."""

import re

import pytest

from shared.catalog import DEFAULT_PIPELINE, LANGUAGES, PIPELINES, SCALP_GRADES, Label

SKIN = {
    "akiec": ("Actinic keratoses / intraepithelial carcinoma", "광선각화증"),
    "bcc": ("Basal cell carcinoma", "기저세포암"),
    "bkl": ("Benign keratosis-like lesions", "지루각화증"),
    "df": ("Dermatofibroma", "피부섬유종"),
    "mel": ("Melanoma", "흑색종"),
    "nv": ("Melanocytic nevi", "모반(점)"),
    "vasc": ("Vascular lesions", "혈관종"),
}
SCALP = {
    "fine_scale": ("value_1", "fine keratin / scaling", "미세각질"),
    "excess_sebum": ("value_2", "excess sebum", "피지과다"),
    "interfollicular_erythema": ("value_3", "interfollicular erythema", "모낭사이홍반"),
    "follicular_erythema_pustule": ("value_4", "follicular erythema / pustule", "모낭홍반/농포"),
    "dandruff": ("value_5", "dandruff", "비듬"),
    "hair_loss": ("value_6", "hair loss", "탈모"),
}
GRADES = [("0", "good", "양호"), ("1", "mild", "경증"), ("2", "moderate", "중등도"), ("3", "severe", "중증")]
ABDOMEN = [
    ("Normal", "증상 없음"),
    ("Pyloric stenosis", "유문협착증"),
    ("Pneumoperitoneum", "기복증"),
    ("Air-fluid level", "공기액체층"),
    ("Constipation", "변비"),
]
CHEST = ["background", "left_lung", "right_lung", "cardiomediastinum", "airways"]
SITES = [
    "back", "lower extremity", "trunk", "upper extremity", "abdomen", "face", "chest", "foot",
    "unknown", "neck", "scalp", "hand", "ear", "genital", "acral",
]  # fmt: skip
NAMES = [
    label
    for pipeline in PIPELINES.values()
    for head in pipeline.heads
    for label in (pipeline.title, *head.labels, *head.grades)
]


def test_skin_has_the_seven_classes_of_ham10000() -> None:
    assert {label.code: (label.en, label.ko) for label in PIPELINES["skin"].labels} == SKIN


def test_skin_accepts_the_older_korean_names_and_the_fifteen_sites() -> None:
    skin = PIPELINES["skin"]
    assert {label.code: label.aliases for label in skin.labels if label.aliases} == {
        "df": ("섬유종",),
        "nv": ("반점",),
    }
    assert sorted(skin.sites) == sorted(SITES)


def test_melanoma_can_only_be_called_melanoma() -> None:
    melanoma = PIPELINES["skin"].label("mel")
    assert (melanoma.en, melanoma.ko, melanoma.fr, melanoma.aliases) == ("Melanoma", "흑색종", "Mélanome", ())
    theirs = {"melanoma", "흑색종", "mélanome"}
    for label in NAMES:
        if label.code != "mel":
            assert not theirs & {name.casefold() for name in (label.en, label.ko, label.fr, *label.aliases)}


def test_scalp_has_six_conditions_of_four_grades() -> None:
    (head,) = PIPELINES["scalp"].heads
    found = {x.code: (x.aliases[0], x.en.casefold(), x.ko) for x in head.labels}
    assert found == {code: (key, name.casefold(), korean) for code, (key, name, korean) in SCALP.items()}
    assert [(grade.code, grade.en, grade.ko) for grade in SCALP_GRADES] == GRADES
    assert head.grades == SCALP_GRADES


def test_the_values_of_masks_are_positions() -> None:
    assert [(label.en, label.ko) for label in PIPELINES["abdominal-xray"].labels] == ABDOMEN
    assert [label.code for label in PIPELINES["chest-xray"].labels] == CHEST
    assert [label.code for label in PIPELINES["lesion"].labels] == ["background", "lesion"]


@pytest.mark.parametrize("name", PIPELINES)
def test_codes_and_names_of_a_pipeline_tell_its_labels_apart(name: str) -> None:
    for head in PIPELINES[name].heads:
        for spelling in (lambda x: x.code, lambda x: x.en, lambda x: x.ko, lambda x: x.fr):
            assert len({spelling(label) for label in head.labels}) == len(head.labels)
        taken = [alias for label in head.labels for alias in label.aliases]
        assert len(set(taken)) == len(taken)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_is_named_as_it_is_listed_and_can_stand_in_a_url(name: str) -> None:
    assert PIPELINES[name].name == name
    assert re.fullmatch(r"[a-z][a-z-]*", name)


@pytest.mark.parametrize("label", NAMES, ids=lambda label: label.code)
def test_every_label_has_a_name_in_every_language(label: Label) -> None:
    assert all(label.name(lang).strip() == label.name(lang) != "" for lang in LANGUAGES)
    assert re.search("[가-힣]", label.ko)
    assert not re.search("[가-힣]", label.en + label.fr)


def test_the_default_pipeline_exists() -> None:
    assert DEFAULT_PIPELINE in PIPELINES


def test_an_unknown_label_is_refused_by_name() -> None:
    with pytest.raises(KeyError, match=r"skin has no label 'melanoma'"):
        PIPELINES["skin"].label("melanoma")
