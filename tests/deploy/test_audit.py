"""The audit of packages, on packages made for it."""

import base64
import hashlib
import json
import sys
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest

from deploy import audit


def packed(folder: Path, name: str, version: str = "1.0", needs: str = "") -> Distribution:
    """An installed package of one file."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (info / "METADATA").write_text(metadata + (f"Requires-Dist: {needs}\n" if needs else ""))
    code = b"print('well')\n"
    (folder / f"{name}.py").write_bytes(code)
    digest = base64.urlsafe_b64encode(hashlib.sha256(code).digest()).rstrip(b"=").decode()
    (info / "RECORD").write_text(f"{name}.py,sha256={digest},{len(code)}\n{info.name}/RECORD,,\n")
    return PathDistribution(info)


def test_a_file_that_was_changed_or_lost_is_named(tmp_path: Path) -> None:
    one = packed(tmp_path, "one")
    assert list(audit.changed(one)) == []
    (tmp_path / "one.py").write_text("print('ill')\n")
    assert list(audit.changed(one)) == ["one: one.py is not as it was packed"]
    (tmp_path / "one.py").unlink()
    assert list(audit.changed(one)) == ["one: one.py is not as it was packed"]


def test_pins_are_exact_and_have_one_spelling(tmp_path: Path) -> None:
    file = tmp_path / "pins.txt"
    file.write_text("# words\nFlask_Thing[redis]==1.0  # why\nonly-elsewhere==2.0; sys_platform == 'amiga'\n")
    assert audit.pinned([file]) == {"flask-thing": "1.0"}
    file.write_text("flask>=1.0\n")
    with pytest.raises(ValueError, match="not pinned"):
        audit.pinned([file])


def test_what_differs_from_the_pins_is_named_and_pip_is_not() -> None:
    found = audit.differences({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "3", "d": "4", "pip": "9"})
    assert found == [
        "b: pinned 2, installed 3",
        "c: pinned 3, installed none",
        "d: pinned none, installed 4",
    ]


def test_what_a_pinned_package_needs_must_be_pinned(tmp_path: Path) -> None:
    there = [packed(tmp_path, "one", needs="Two_Words>=2"), packed(tmp_path, "spare", needs="other")]
    assert audit.unpinned(there, {"one": "1.0", "two-words": "2"}) == []
    assert audit.unpinned(there, {"one": "1.0"}) == ["two-words: not pinned, and one needs it"]


def pip_audit(folder: Path, code: str) -> list[str]:
    """Something in the place of pip-audit."""
    script = folder / "pip_audit.py"
    script.write_text(code)
    return [sys.executable, str(script)]


def test_known_weaknesses_are_named_with_their_cure(tmp_path: Path) -> None:
    weak = {"id": "PYSEC-1", "fix_versions": ["2.0", "1.1"], "aliases": [], "description": ""}
    answer = {
        "dependencies": [
            {"name": "one", "version": "1.0", "vulns": [weak]},
            {"name": "two", "version": "1", "vulns": []},
        ]
    }
    command = pip_audit(tmp_path, f"import sys; print({json.dumps(json.dumps(answer))}); sys.exit(1)")
    assert audit.advisories(command) == ["one 1.0: PYSEC-1, mended in 2.0, 1.1"]


def test_a_database_out_of_reach_is_not_taken_for_a_clean_bill(tmp_path: Path) -> None:
    command = pip_audit(tmp_path, "raise SystemExit('ConnectionError: no such host')")
    with pytest.raises(audit.Unreachable, match="not looked up: ConnectionError: no such host"):
        audit.advisories(command)
    told = audit.report(audit.Audit(unknown=["advisories were not looked up"]), 3)
    assert told == "not known: advisories were not looked up\n3 packages: nothing wrong."


def test_findings_are_counted() -> None:
    assert audit.report(audit.Audit(wrong=["a: pinned 1, installed 2"]), 3).endswith(
        "3 packages: 1 findings."
    )
