"""Texts of an operator's in the database: added all or none, replaced by newer editions, seen by everybody."""

import pytest

from shared import texts
from shared.database import Database
from shared.errors import NotFound
from shared.text_files import NewText, parse


def new(title: str, body: str = "We see moles on Mondays.") -> NewText:
    header = f"---\ntitle: {title}\nsource: 예시 병원 😀\ndate: 2026-03-01\n---\n"
    return parse((header + body).encode(), f"{title}.md")


def test_what_was_added_is_read_back_as_it_was(database: Database) -> None:
    (added,) = texts.add(database, [new("Moles", "One.\n\n" + "Two is a sentence. " * 60)])
    (row,) = texts.every(database)
    assert (row.id, row.title, row.source, row.date, row.lang) == (
        added.id,
        "Moles",
        "예시 병원 😀",
        "2026-03-01",
        "en",
    )
    assert tuple(row.passages) == added.text.passages
    assert len(row.passages) > 1


def test_the_same_file_again_changes_nothing_and_another_edition_replaces_it(database: Database) -> None:
    (first,) = texts.add(database, [new("Moles")])
    before = texts.ids(database)
    assert [one.how for one in texts.add(database, [new("Moles")])] == ["unchanged"]
    assert texts.ids(database) == before
    (second,) = texts.add(database, [new("Moles", "We see moles on Tuesdays.")])
    assert (second.how, texts.ids(database)) == ("replaced", (second.id,))
    assert second.id != first.id


def test_too_many_are_refused_as_a_whole(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "MOST_TEXTS", 2)
    with pytest.raises(texts.TooManyTexts):
        texts.add(database, [new("a"), new("b"), new("c")])
    assert texts.ids(database) == ()


def test_a_text_is_removed_once(database: Database) -> None:
    kept, gone = texts.add(database, [new("a"), new("b")])
    texts.remove(database, gone.id)
    assert texts.ids(database) == (kept.id,)
    with pytest.raises(NotFound):
        texts.remove(database, gone.id)
