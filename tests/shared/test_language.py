import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.catalog import LANGUAGES
from shared.language import detect


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("", "en"),
        ("Melanoma", "en"),
        ("Is this mole dangerous?", "en"),
        ("Is 흑색종 dangerous?", "en"),
        ("Café au lait spots: is that it?", "en"),
        ("이 점은 위험한가요?", "ko"),
        ("이게 melanoma 인가요?", "ko"),
        (unicodedata.normalize("NFD", "이게 뭐예요"), "ko"),
        ("ㅠㅠ", "ko"),
        ("Est-ce que c'est dangereux ?", "fr"),
        ("Dois-je consulter un médecin ?", "fr"),
        ("EST-CE QUE C'EST GRAVE", "fr"),
        ("mélanome ?", "fr"),
        (unicodedata.normalize("NFD", "mélanome ?"), "fr"),
        ("1234 😀 \x00", "en"),
    ],
)
def test_the_language_of_a_question(text, lang):
    assert detect(text) == lang


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_no_text_raises_not_even_with_lone_surrogates(text):
    assert detect(text) in LANGUAGES
    assert detect(text) == detect(text)
