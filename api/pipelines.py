"""The pipelines resource: what can be asked, in which words the answer comes, and how good the weights are."""

from typing import Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel

from api import problems
from api.checked import checked
from api.services import Services, services
from shared.cards import ModelCard
from shared.catalog import PIPELINES, Head, Label, Pipeline
from shared.errors import NotFound
from shared.schemas import HeadInfo, LabelInfo, PipelineDetail, PipelineInfo, PipelineList, PipelineUrls

api = APIBlueprint(
    "pipelines",
    __name__,
    url_prefix="/v1/pipelines",
    abp_tags=[Tag(name="pipelines")],
    abp_responses=problems.RESPONSES,
)


class PipelinePath(BaseModel):
    name: str


@api.get("", responses={"200": PipelineList})
@checked
def list_pipelines() -> Response:
    """List every pipeline, those without weights included"""
    items = [PipelineInfo(**_facts(services(), pipeline)) for pipeline in PIPELINES.values()]
    return _json(PipelineList(items=items))


@api.get("/<name>", responses={"200": PipelineDetail})
@checked
def get_pipeline(path: PipelinePath) -> Response:
    """Look at one pipeline, with the card of its weights"""
    room, pipeline = services(), _find(path.name)
    return _json(PipelineDetail(**_facts(room, pipeline), card=room.availability.card(pipeline)))


@api.get("/<name>/card", responses={"200": ModelCard})
@checked
def get_card(path: PipelinePath) -> Response:
    """Look at the model card of a pipeline's first head"""
    room, pipeline = services(), _find(path.name)
    card = room.availability.card(pipeline)
    if card is None:
        raise NotFound(room.availability.standing(pipeline).reason or "")
    return _json(card)


def _find(name: str) -> Pipeline:
    if name not in PIPELINES:
        raise NotFound(f"There is no such pipeline; there are {', '.join(PIPELINES)}.")
    return PIPELINES[name]


def _facts(room: Services, pipeline: Pipeline) -> dict[str, Any]:
    standing = room.availability.standing(pipeline)
    url = f"/v1/pipelines/{pipeline.name}"
    return {
        "name": pipeline.name,
        "title": _label(pipeline.title),
        "modality": pipeline.modality,
        "sites": list(pipeline.sites),
        "labels": [_label(label) for label in pipeline.labels],
        "heads": [_head(head) for head in pipeline.heads],
        "available": standing.available,
        "reason": standing.reason,
        "train_command": standing.train_command,
        "urls": PipelineUrls(self=url, card=f"{url}/card"),
    }


def _head(head: Head) -> HeadInfo:
    return HeadInfo(
        kind=head.kind,
        optional=head.optional,
        weights=head.weights,
        labels=[_label(label) for label in head.labels],
        grades=[_label(grade) for grade in head.grades],
    )


def _label(label: Label) -> LabelInfo:
    colour = "#{:02x}{:02x}{:02x}".format(*label.colour) if label.colour else None
    return LabelInfo(code=label.code, en=label.en, ko=label.ko, fr=label.fr, colour=colour)


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), mimetype="application/json")
