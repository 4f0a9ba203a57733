"""What reaches the terminal: never a control character, and numbers that do not claim certainty."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.render import bar, line, percent, plain


@given(st.text())
def test_nothing_that_controls_a_terminal_survives(text: str) -> None:
    shown = plain(text)
    assert not {char for char in shown if unicodedata.category(char) in ("Cc", "Cs")} - {"\n", "\t"}
    assert "\n" not in line(text)


@given(st.text(alphabet="abc\x1b\x9b[]();:?\x07\\mK0\n"))
def test_escape_sequences_go_in_one_pass(text: str) -> None:
    assert plain(plain(text)) == plain(text)


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;https://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bc reset", " reset"),
        ("one\r\ntwo\rthree", "one\ntwothree"),
        ("모반(점) é", "모반(점) é"),
    ],
)
def test_known_sequences(sent: str, shown: str) -> None:
    assert plain(sent) == shown


@pytest.mark.parametrize(
    ("probability", "shown"),
    [(0.0, "< 0.1 %"), (0.0004, "< 0.1 %"), (0.5, "50.0 %"), (0.9996, "> 99.9 %"), (1.0, "> 99.9 %")],
)
def test_no_finding_is_certain(probability: float, shown: str) -> None:
    assert percent(probability) == shown


@pytest.mark.parametrize("threshold", [None, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_bars_have_one_width(probability: float, threshold: float | None) -> None:
    assert len(bar(probability, threshold, "").plain) == 24
