"""Files that an operator adds: what is kept of them, and what is refused."""

import os
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.text_files import (
    LARGEST_BYTES,
    LONGEST_PASSAGE,
    MOST_PASSAGES,
    TextFileError,
    parse,
    read_folder,
)

HEADER = "---\ntitle: Moles in our clinic\nsource: Example Hospital\ndate: 2026-03-01\n---\n"


def text(body: str, header: str = HEADER, *, markdown: bool = True):
    return parse((header + body).encode(), "a.md", markdown=markdown)


def test_a_file_says_what_it_is_in_its_header() -> None:
    found = text(
        "We see moles on Mondays.", HEADER.replace("date:", "url: https://example.org/a?b=c\nlang: fr\ndate:")
    )
    assert (found.title, found.source, found.date) == (
        "Moles in our clinic",
        "Example Hospital",
        date(2026, 3, 1),
    )
    assert (found.url, found.lang, found.passages) == (
        "https://example.org/a?b=c",
        "fr",
        ("We see moles on Mondays.",),
    )


@pytest.mark.parametrize(
    ("body", "lang"),
    [("We see moles.", "en"), ("점은 월요일에 봅니다.", "ko"), ("Nous voyons les taches le lundi.", "fr")],
)
def test_the_language_is_found_where_it_is_not_said(body: str, lang: str) -> None:
    assert text(body).lang == lang


def test_markup_leaves_its_words_and_pictures_leave_nothing() -> None:
    body = "# Moles\n\nSee *our* [page](https://x.org/y) `now`.\n\n![a mole](x.png)\n\n- one\n- two\n\n<b>bold</b>"
    assert text(body).passages == ("Moles\nSee our page now.\none\ntwo\n<b>bold</b>",)


def test_plain_text_is_not_read_as_markdown() -> None:
    assert text("*See* us.\n\n# Not a heading", markdown=False).passages == ("*See* us.\n# Not a heading",)


def test_long_paragraphs_end_with_a_sentence_and_none_is_longer_than_a_passage_may_be() -> None:
    passages = text("A sentence of some length about moles. " * 60 + "x" * 3000).passages
    assert len(passages) > 4
    assert all(len(passage) <= LONGEST_PASSAGE for passage in passages)
    assert all(passage.endswith("moles.") for passage in passages[:3])


def test_line_ends_marks_and_invisible_characters_do_not_matter() -> None:
    plain = text("One line.\n\nAnother.")
    odd = parse(
        b"\xef\xbb\xbf" + (HEADER + "One\u200b line.\n\nAnother.").replace("\n", "\r\n").encode(), "a.md"
    )
    assert odd.passages == plain.passages


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"no header", "must begin with ---"),
        (HEADER.encode() + b" \n", "no text after its header"),
        (HEADER.replace("title: Moles in our clinic\n", "").encode() + b"x", "title is missing"),
        (HEADER.replace("Moles in our clinic", " ").encode() + b"x", "title is missing"),
        (HEADER.replace("Moles", "M" * 200).encode() + b"x", "title has more than"),
        (HEADER.replace("source:", "title:").encode() + b"x", "title stands twice"),
        (HEADER.replace("source:", "author:").encode() + b"x", "is not one of"),
        (HEADER.replace("2026-03-01", "yesterday").encode() + b"x", "date must be a date"),
        (HEADER.replace("2026-03-01", "2999-03-01").encode() + b"x", "between 1900 and today"),
        (HEADER.replace("date:", "lang: de\ndate:").encode() + b"x", "lang must be one of"),
        (HEADER.replace("date:", "url: javascript:alert(1)\ndate:").encode() + b"x", "url must be"),
        (HEADER.replace("date:", "url: https://[\ndate:").encode() + b"x", "url must be"),
        (HEADER.replace("date:", "url: https://a b.org\ndate:").encode() + b"x", "url must be"),
        (HEADER.encode() + b"a\x00b", "U+0000"),
        (HEADER.encode() + "a\u202eb".encode(), "U+202E"),
        (HEADER.replace("Moles", "Mo\u2066les").encode() + b"x", "U+2066"),
        (HEADER.encode() + b"x" * LARGEST_BYTES, "more than"),
        (
            HEADER.encode() + ("y" * 599 + "\n\n").encode() * (MOST_PASSAGES + 1),
            f"{MOST_PASSAGES} is the most",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(content: bytes, reason: str) -> None:
    with pytest.raises(TextFileError, match=reason.replace("+", r"\+")) as caught:
        parse(content, "folder/a.md")
    assert str(caught.value).startswith("folder/a.md: ")


@given(
    st.binary(max_size=300)
    | st.text(max_size=300).map(lambda body: (HEADER + body).encode("utf-8", "ignore"))
)
def test_whatever_a_file_holds_it_is_a_text_or_refused(content: bytes) -> None:
    try:
        found = parse(content, "a.md")
    except TextFileError:
        return
    for passage in found.passages:
        passage.encode()
        assert passage.strip()
        assert "\x00" not in passage


def test_a_folder_gives_its_texts_and_every_fault(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.md").write_text(HEADER + "Deep.")
    (tmp_path / "a.txt").write_text(HEADER + "Flat.")
    (tmp_path / "c.md").write_text("nothing")
    (tmp_path / "ignored.pdf").write_text("x")
    (tmp_path / "link.md").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "pipe.md")
    texts, faults = read_folder(tmp_path)
    assert [one.file for one in texts] == ["a.txt", "deep/b.md"]
    assert [fault.split(":")[0] for fault in faults] == ["c.md", "link.md", "pipe.md"]


def test_a_folder_without_texts_is_told_so(tmp_path: Path) -> None:
    assert read_folder(tmp_path)[1][0].endswith("no file ends in .md, .markdown, .txt")


def test_a_file_name_that_is_no_text_is_written_so_that_it_is(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.md")).write_text(HEADER + "x")
    (found,), _ = read_folder(tmp_path)
    found.file.encode()
