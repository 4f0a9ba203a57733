"""The HTTP paths of the systems that MedQ replaces, for clients written for them; thin, over the same jobs as /v1."""

import base64
import binascii
import json
import re
from typing import Any

from flask import Blueprint, Response, request
from pydantic import BaseModel, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import compat_forms as old
from api import problems
from api.auth import owner
from api.checked import problems as field_problems
from api.checked import validate
from api.jobs import MOST_WAIT_S
from api.lookup import load, wait_for_end
from api.multipart import OVERHEAD_BYTES, Form, Upload, read_form, whole, wrong_field
from api.services import Services, services
from api.submit import SubmitForm, take
from shared import jobs
from shared.asked import clean_filename
from shared.catalog import PIPELINES
from shared.errors import InvalidRequest, NotFound, NothingFound, ServiceUnavailable
from shared.schemas import Explain, Job
from shared.tables import JobRow

SCALP, XRAY = "scalp", "abdominal-xray"
OVERLAY, EXPLANATION = "overlay", "explanation"
NOT_READY = ""
OWN_ID = re.compile(r"\w[\w.@:~-]{0,254}")  # what can stand in a path
# The words of both languages, in small letters.
PRECISIONS: dict[str, Explain] = {
    "faible": "low", "low": "low", "moyenne": "medium", "medium": "medium", "importante": "high", "high": "high",
}  # fmt: skip

pages = Blueprint("compat", __name__)


class PredictBody(BaseModel):
    """MLBIO's body; what else stands in it is nobody's."""

    image: str  # base64
    explain: bool = False
    precision: str | None = None


@pages.post("/predict_all")
def predict_all() -> Response:
    """Grade all six conditions of a scalp"""
    form = read_form(request.content_type or "", request.stream, {"image": whole})
    return _json(old.values_of(_ended(_asked(form, "image", pipeline=SCALP, answer="never"))))


@pages.post("/predict")
def predict() -> Response:
    """Two systems had this path; the media type tells whose client asks"""
    return _explained() if _is_mlbio() else _one_condition()


@pages.post("/upload")
def upload() -> Response:
    """Take an abdominal X-ray and a question, under the client's own id if it has one"""
    form = read_form(request.content_type or "", request.stream, {"file": whole})
    own, question = form.texts.get("id") or None, form.texts.get("text", "")
    if own and not OWN_ID.fullmatch(own):
        raise wrong_field("id", "must be up to 255 letters, digits and the signs _ . @ : ~ -")
    asked = _asked(form, "file", pipeline=XRAY, question=question, **({} if question else {"lang": "ko"}))
    job_id, _ = take(asked, custom_id=own)
    name = clean_filename(asked.image.filename)
    return _json({"id": own or job_id, "file": name, "prompt": question, "message": "업로드 성공!"})


@pages.get("/visionOutputs/<own_id>")
def vision_outputs(own_id: str) -> Response:
    """The X-ray with what was found laid over it"""
    room = services()
    job = _uploaded(room, own_id)
    shown = OVERLAY in job.artifacts
    return _outputs(job, old.png_of(_artifact(room, job, OVERLAY)) if shown else None)


@pages.get("/llmOutputs/<own_id>")
def llm_outputs(own_id: str) -> Response:
    """The answer in words"""
    job = _uploaded(services(), own_id)
    return _outputs(job, job.answer.text if job.answer else None)


@pages.after_request
def _in_old_form(response: Response) -> Response:
    """MLBIO had a form for failures; of the others none is known, and a problem's `detail` is a sentence."""
    if _is_mlbio() and response.mimetype == problems.MEDIA_TYPE:
        problem = json.loads(response.get_data())
        response.set_data(_text({"success": False, "error": _sentence(problem)}))
        response.mimetype = "application/json"
    return response


def _is_mlbio() -> bool:
    return request.endpoint == "compat.predict" and request.mimetype == "application/json"


def _one_condition() -> Response:
    form = read_form(request.content_type or "", request.stream, {"image": whole})
    known = {str(n): label.code for n, label in enumerate(PIPELINES[SCALP].labels, 1)}
    number = form.texts.get("value_num", "")
    if number not in known:
        raise wrong_field("value_num", f"must be 1 to {len(known)}")
    return _json(old.values_of(_ended(_asked(form, "image", pipeline=SCALP, answer="never")), known[number]))


def _explained() -> Response:
    body = _mlbio_body()
    level = _level(body) if body.explain else "none"
    form = validate(
        SubmitForm,
        {"image": Upload("image", _decoded(body.image)), "answer": "never", "lang": "en", "explain": level},
    )
    job = _ended(form)
    pixels = None
    if EXPLANATION in job.artifacts:
        pixels = old.pixels_of(_artifact(services(), job, EXPLANATION))
    return _json(old.prediction_of(job, pixels))


def _mlbio_body() -> PredictBody:
    """Raises: InvalidRequest, RequestEntityTooLarge"""
    request.max_content_length = services().settings.max_upload_bytes * 4 // 3 + OVERHEAD_BYTES
    try:
        return PredictBody.model_validate_json(request.get_data())
    except ValidationError as error:
        raise InvalidRequest(
            "A field has a value that is not allowed.", errors=field_problems(error)
        ) from None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise wrong_field("image", "must be base64") from None


def _level(body: PredictBody) -> Explain:
    name = (body.precision or "Moyenne").lower()
    if name not in PRECISIONS:
        raise wrong_field("precision", "must be Faible, Moyenne or Importante, or Low, Medium or High")
    return PRECISIONS[name]


def _asked(form: Form, picture: str, **fields: str) -> SubmitForm:
    """What /v1/jobs would have been sent."""
    if picture not in form.kept:
        raise wrong_field(picture, "is missing")
    return validate(SubmitForm, {"image": form.kept[picture], **fields})


def _ended(form: SubmitForm) -> Job:
    """Submit, and wait for the end as these clients do, in the waits of /v1 and no longer.

    A job that is given up is canceled: its client never hears of its id, and would only send it again.

    Raises: ServiceUnavailable when it did not end in time, or too many clients wait; NothingFound when it failed
    """
    room = services()
    job_id, _ = take(form)
    wait_for_end(room, job_id, MOST_WAIT_S)
    if not load(room, job_id).ended and jobs.cancel(room.db, job_id):
        raise ServiceUnavailable("The picture was not looked at in time; it was given up.", retry_after_s=5)
    job = load(room, job_id).job
    if job.status != "succeeded":
        raise _without(job)
    return job


def _uploaded(room: Services, own_id: str) -> Job:
    """The caller's newest X-ray that was uploaded under this id, or the one whose job has it.

    Raises: NotFound
    """
    if not OWN_ID.fullmatch(own_id):
        raise NotFound()
    mine = select(JobRow.id).where(JobRow.owner == owner())
    named = (
        mine.where(JobRow.custom_id == own_id, JobRow.pipeline == XRAY).order_by(JobRow.id.desc()).limit(1)
    )

    def work(session: Session) -> str | None:
        return session.scalar(named)

    found = load(room, room.db.read(work) or own_id).job
    if found.pipeline != XRAY:
        raise NotFound()
    return found


def _outputs(job: Job, found: str | None) -> Response:
    """Raises: NothingFound when there will never be any, so that nobody polls for ever"""
    if found is None and job.completed_at is not None:
        raise _without(job)
    return _json({"outputs": [NOT_READY if found is None else found]})


def _without(job: Job) -> NothingFound:
    return NothingFound(job.error.detail if job.error else "The job ended without a result.")


def _artifact(room: Services, job: Job, name: str) -> bytes:
    return room.storage.get(f"{job.id}/{name}")


def _sentence(problem: dict[str, Any]) -> str:
    """A problem on one line, with the fields that were wrong."""
    fields = [f"{one['pointer']}: {one['detail']}" for one in problem.get("errors") or []]
    return " ".join([problem["detail"], *fields])


def _json(body: dict[str, Any]) -> Response:
    return Response(_text(body), mimetype="application/json")


def _text(body: dict[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False)
