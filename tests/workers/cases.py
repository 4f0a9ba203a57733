"""Cases for tests: the findings of tests/answers_eval, as the answer stage gets them."""

import json
from typing import Any

from shared.ids import new_id
from shared.schemas import Finding, Warning
from shared.tables import JobRow
from tests.answers_eval.replies import HERE
from workers.knowledge import retrieve
from workers.prompt import Case

CASES: dict[str, Any] = json.loads((HERE / "cases.json").read_text(encoding="utf-8"))


def case(name: str = "mel_clear", lang: str = "en", question: str = "") -> Case:
    one = CASES[name]
    found = tuple(Finding(name="x", **finding) for finding in one["findings"])
    return Case(
        pipeline="skin",
        question=question,
        lang=lang,  # type: ignore[arg-type]
        age=one["age"],
        sex=one["sex"],
        site=one["site"],
        findings=found,
        warnings=tuple(Warning(**warning) for warning in one["warnings"]),
        passages=tuple(retrieve("skin", found, question, lang)),  # type: ignore[arg-type]
    )


def job(name: str = "mel_clear", lang: str = "en", question: str = "", **columns: Any) -> JobRow:
    one = CASES[name]
    plain = {
        "id": new_id(), "pipeline": "skin", "question": question, "lang": lang, "age": one["age"],
        "sex": one["sex"], "site": one["site"], "external": True, "failures": 0, "attempt": 1,
        "findings": [finding | {"name": "x"} for finding in one["findings"]], "warnings": one["warnings"] or None,
    }  # fmt: skip
    return JobRow(**(plain | columns))
