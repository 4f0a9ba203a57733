import datetime
import re
import shutil

import pytest

from shared.catalog import LANGUAGES, PIPELINES
from shared.schemas import Finding, Grade, Segment
from workers.knowledge import library, measured_labels, passages, retrieve
from workers.label_texts import TEXTS, TOPICS, KnowledgeError, load

SKIN = [label.code for label in PIPELINES["skin"].labels]
LABELS = [(name, label.code) for name, pipeline in PIPELINES.items() for label in pipeline.labels]
MELANOMA = {"en": "melanoma", "ko": "흑색종", "fr": "mélanome"}
DERMATOFIBROMA = {"en": "dermatofibroma", "ko": "섬유종", "fr": "dermatofibrome"}
STATEMENTS = [
    pytest.param(statement, id=f"{pipeline}-{label}-{i}")
    for (pipeline, label), text in library().items()
    for i, statement in enumerate(text.statements)
]
HANGUL = re.compile("[가-힣]")
DRUGS_AND_DOSES = re.compile(
    r"\b\d+ ?(mg|mcg|µg|ml|g|iu)\b|\b(cream|tablet|dose|imiquimod|fluorouracil|crème|comprimé)\b|연고|알약|복용"
)


def findings(**probabilities):
    """Above threshold from 0.5; labels that are not named share what is left."""
    rest = (1 - sum(probabilities.values())) / (len(SKIN) - len(probabilities))
    return [
        Finding(label=code, name=code, probability=p, above_threshold=p >= 0.5)
        for code in SKIN
        for p in [probabilities.get(code, rest)]
    ]


def labels_of(found):
    return list(dict.fromkeys(passage.label for passage in found))


def test_every_label_of_every_pipeline_has_a_text():
    assert sorted(library()) == sorted(LABELS)


@pytest.mark.parametrize(("pipeline", "code"), LABELS)
def test_every_text_speaks_of_every_topic_in_four_to_nine_statements(pipeline, code):
    text = library()[pipeline, code]
    assert {statement.topic for statement in text.statements} == set(TOPICS)
    assert 4 <= len(text.statements) <= 9


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_says_the_same_in_three_languages_with_a_public_source(statement):
    assert set(statement.texts) == set(LANGUAGES)
    assert HANGUL.search(statement.texts["ko"])
    assert not HANGUL.search(statement.texts["en"] + statement.texts["fr"])
    assert len(set(statement.texts.values())) == 3
    numbers = {lang: sorted(re.findall(r"\d+", text)) for lang, text in statement.texts.items()}
    assert numbers["en"] == numbers["fr"]
    assert set(numbers["en"]) <= set(numbers["ko"])  # Korean writes "two weeks" with a digit
    assert statement.source.url.startswith("https://")
    assert statement.source.title
    assert statement.source.publisher


@pytest.mark.parametrize("statement", STATEMENTS)
def test_no_statement_names_a_drug_or_a_dose(statement):
    for text in statement.texts.values():
        assert not DRUGS_AND_DOSES.search(text.casefold())


def test_every_source_is_used():
    written = set(re.findall(r"^\[([^]]+)\]", (TEXTS / "sources.toml").read_text(), re.M))
    used = {statement.source.id for text in library().values() for statement in text.statements}
    assert written == used


def test_no_text_is_signed_yet():
    assert {text.reviewed_by for text in library().values()} == {""}


@pytest.mark.parametrize("code", ["mel", "bcc", "akiec"])
def test_what_may_be_cancer_is_never_left_to_self_care(code):
    assert library()["skin", code].urgency != "self_care"


def test_melanoma_is_within_days():
    assert library()["skin", "mel"].urgency == "within_days"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_text_about_mel_calls_it_melanoma_and_nothing_else(lang):
    text = library()["skin", "mel"]
    names = [text.title[lang], *text.also]
    assert text.title[lang] == MELANOMA[lang]
    assert all(any(word in name for word in MELANOMA.values()) for name in names)
    spoken = " ".join(statement.texts[lang] for statement in text.statements)
    assert MELANOMA[lang] in spoken.casefold()
    assert not any(word in (spoken + " ".join(names)).casefold() for word in DERMATOFIBROMA.values())


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_text_about_df_never_says_melanoma(lang):
    text = library()["skin", "df"]
    assert DERMATOFIBROMA[lang] in text.title[lang]
    spoken = " ".join(
        [text.title[lang], *text.also, *(statement.texts[lang] for statement in text.statements)]
    )
    assert not any(word in spoken.casefold() for word in MELANOMA.values())


@pytest.mark.parametrize(("pipeline", "code"), [key for key in LABELS if key != ("skin", "mel")])
def test_no_other_label_goes_by_the_name_of_melanoma(pipeline, code):
    text = library()[pipeline, code]
    names = " ".join([*text.title.values(), *text.also]).casefold()
    assert not any(word in names for word in MELANOMA.values())


@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES.keys())
def test_every_label_table_calls_mel_melanoma_and_nothing_else_so(pipeline):
    for head in pipeline.heads:
        for label in head.labels:
            names = {lang: label.name(lang).casefold() for lang in LANGUAGES}
            if label.code == "mel":
                assert names == MELANOMA
                assert label.aliases == ()
            else:
                spoken = " ".join([*names.values(), *label.aliases]).casefold()
                assert not any(word in spoken for word in MELANOMA.values())


def test_passages_are_those_of_the_most_probable_labels():
    assert labels_of(retrieve("skin", findings(nv=0.6, mel=0.2, bkl=0.1, df=0.06), "", "en")) == [
        "nv",
        "mel",
        "bkl",
    ]


def test_a_label_above_its_threshold_is_never_left_out():
    every = [finding.model_copy(update={"above_threshold": True}) for finding in findings(nv=0.9)]
    assert set(labels_of(retrieve("skin", every, "", "en", limit=1))) == set(SKIN)


def test_improbable_labels_do_not_fill_the_passages():
    assert labels_of(retrieve("skin", findings(nv=0.97), "", "en")) == ["nv"]


@pytest.mark.parametrize(
    ("question", "label"),
    [
        ("Could it be a melanoma?", "mel"),
        ("흑색종일까요?", "mel"),
        ("Est-ce un mélanome ?", "mel"),
        ("is this Basal Cell Carcinoma", "bcc"),
        ("피부섬유종인가요?", "df"),
        ("검버섯 같아요", "bkl"),
    ],
)
def test_a_label_that_the_question_names_is_in_the_passages(question, label):
    assert labels_of(retrieve("skin", findings(nv=0.9), question, "en")) == ["nv", label]


def test_a_name_inside_another_word_is_not_a_question_about_it():
    assert labels_of(retrieve("skin", findings(df=0.97), "What molecules are in it?", "en")) == ["df"]


def test_the_order_of_the_findings_does_not_matter():
    some = findings(nv=0.5, mel=0.3)
    assert retrieve("skin", some, "x", "ko") == retrieve("skin", some[::-1], "x", "ko")


def segment(label, share):
    return Segment(
        label=label,
        name=label,
        area_px=9,
        area_fraction=share,
        bbox=(0, 0, 3, 3),
        mean_probability=0.9,
        position="centre",
    )


def grade(condition, value):
    return Grade(condition=condition, name="x", grade=value, grade_name="x", probabilities=[0.25] * 4)


def test_nothing_found_or_measured_has_no_passages():
    assert retrieve("chest-xray", [], "", "en") == []


def test_what_was_outlined_is_in_the_passages_largest_first():
    found = measured_labels("chest-xray", [segment("airways", 0.01), segment("left_lung", 0.2)], None)
    assert found == ["left_lung", "airways"]
    assert labels_of(retrieve("chest-xray", [], "", "ko", measured=found)) == found


def test_where_nothing_was_outlined_the_text_says_what_that_means():
    assert measured_labels("abdominal-xray", [], None) == ["normal"]
    assert measured_labels("abdominal-xray", None, None) == []


def test_what_was_graded_above_good_is_in_the_passages_worst_first():
    grades = [grade("fine_scale", 1), grade("hair_loss", 3), grade("dandruff", 0)]
    assert measured_labels("scalp", None, grades) == ["hair_loss", "fine_scale"]


def test_a_passage_says_where_it_comes_from():
    passage = retrieve("skin", findings(mel=0.9), "", "fr")[0]
    assert passage.id == "skin/mel/what"
    assert passage.title == "mélanome"
    assert passage.text == " ".join(quote.text for quote in passage.quotes)
    assert [source.id for source in passage.sources] == ["nci-pdq-melanoma", "nhs-moles"]
    assert passage.date >= datetime.date(2026, 1, 1)
    assert passage.department == "Dermatologie"
    assert passage.urgency == "within_days"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_passage_ids_are_unique(lang):
    ids = [p.id for (pipeline, _), text in library().items() for p in passages(pipeline, text, lang)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("file", "old", "new", "field"),
    [
        ("skin/mel.toml", 'urgency = "within_days"', 'urgency = "soon"', "urgency must be one of"),
        ("skin/mel.toml", 'urgency = "within_days"', "", "urgency is missing"),
        ("skin/mel.toml", 'label = "mel"', 'label = "df"', "label must be 'mel'"),
        ("skin/mel.toml", 'label = "mel"', 'label = "melanoma"', "label must be one of"),
        ("skin/mel.toml", "date = 2026-11-20", 'date = "today"', "date must be a date"),
        ("skin/mel.toml", 'reviewed_by = ""', "reviewed_by = 3", "reviewed_by must be a text"),
        ("skin/mel.toml", 'ko = "흑색종"', 'ko = " "', "title.ko must be a text that is not empty"),
        ("skin/mel.toml", 'ko = "흑색종"', "", "title.ko is missing"),
        ("skin/mel.toml", 'topic = "what"', 'topic = "cure"', r"statement\[1\].topic must be one of"),
        ("skin/mel.toml", 'source = "aad-abcde"', 'source = "me"', r"statement\[3\].source must be one of"),
        ("skin/mel.toml", 'source = "aad-abcde"', "", r"statement\[3\].source is missing"),
        ("skin/mel.toml", 'reviewed_by = ""', 'reviewed_by = ""\nnote = "x"', "note is not a field"),
        ("skin/mel.toml", "[title]", "[title", "cannot be read"),
        ("sources.toml", "https://doi.org", "doi.org", "ham10000.url must be"),
        ("sources.toml", 'publisher = "Pulse"', "", "pulse-pyogenic-granuloma.publisher is missing"),
    ],
)
def test_a_broken_text_is_refused_by_file_and_field(tmp_path, file, old, new, field):
    shutil.copytree(TEXTS, tmp_path / "texts")
    path = tmp_path / "texts" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(KnowledgeError, match=field) as caught:
        load(tmp_path / "texts")
    assert str(path) in str(caught.value)


def test_texts_for_an_unknown_pipeline_are_refused(tmp_path):
    shutil.copytree(TEXTS, tmp_path / "texts")
    (tmp_path / "texts" / "skin").rename(tmp_path / "texts" / "skins")
    with pytest.raises(KnowledgeError, match="'skins' is not a pipeline"):
        load(tmp_path / "texts")
