"""Request and response bodies, as ../shared/design/API.md fixes them; only requests forbid unknown fields."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from shared.cards import ModelCard
from shared.catalog import Lang, Urgency

QUESTION_LIMIT = 4_000  # characters
METADATA_LIMIT_BYTES = 2_048
NOTE_LIMIT = 2_000  # characters

Sex = Literal["female", "male", "unknown"]
Explain = Literal["none", "low", "medium", "high"]
AnswerWhen = Literal["auto", "always", "never"]
JobStatus = Literal["queued", "running", "succeeded", "failed", "canceled", "expired"]
Position = Literal[
    "upper left", "upper middle", "upper right", "middle left", "centre", "middle right",
    "lower left", "lower middle", "lower right",
]  # fmt: skip
StageName = Literal["vision", "answer", "explain"]


def clean_text(text: str) -> str:
    """Refuse what no store can hold and no reader can see: NUL and lone surrogates.

    Raises: ValueError
    """
    if "\x00" in text:
        raise ValueError("text must not hold NUL characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("text must be valid Unicode, without lone surrogates") from None
    return text


def not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


# The pattern is for the document, and says of NUL what clean_text says.
Text = Annotated[str, AfterValidator(clean_text), Field(json_schema_extra={"pattern": "^[^\\u0000]*$"})]


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)


class Body(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())


class Finding(Body):
    """A label with its calibrated probability, and whether that passes the card's threshold."""

    label: str
    name: str
    probability: float = Field(ge=0, le=1)
    above_threshold: bool


class Grade(Body):
    """One condition, graded 0 to 3."""

    condition: str
    name: str
    grade: int
    grade_name: str
    probabilities: list[float]


class Segment(Body):
    """One label's area in the picture, in the input's own pixels."""

    label: str
    name: str
    area_px: int
    area_fraction: float
    bbox: tuple[int, int, int, int]  # x, y, width, height
    mean_probability: float
    position: Position  # of its centre, in thirds of the picture


class Warning(Body):
    code: Literal["low_quality", "out_of_distribution", "explanation_failed", "no_language_model"]
    detail: str


class UsedModel(Body):
    """The weights that made the findings; `also` are those of the pipeline's further heads.

    `clinical` names those of `age`, `sex` and `site` that the findings rest on besides the picture.
    """

    name: str
    version: str
    sha256: str
    clinical: list[str] = []
    also: "list[UsedModel]" = []


class Check(Body):
    name: str
    passed: bool


class Citation(Body):
    """A passage that the answer rests on; `quote` stands in it word for word."""

    id: str
    title: str
    quote: str
    url: str | None = None
    reviewed_by: str | None = None


class PromptUsed(Body):
    name: str
    sha256: str


class TokenUsage(Body):
    input_tokens: int = 0
    output_tokens: int = 0


class Answer(Body):
    """The answer in words, where it came from and what it rests on."""

    text: str
    source: Literal["language_model", "reference"]
    model: str | None = None
    urgency: Urgency
    cannot_tell: list[str] = []
    department: str | None = None
    next_step: str
    checks: list[Check] = []
    refused_reason: str | None = None
    citations: list[Citation] = []
    prompt: PromptUsed
    usage: TokenUsage = TokenUsage()


class InputInfo(Body):
    filename: str | None
    media_type: str
    sha256: str
    size_bytes: int
    width: int
    height: int
    frame: int | None = None  # of a multi-frame picture, from 1; null: the first


class AttemptInfo(Body):
    stage: StageName
    number: int
    worker: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: list[dict[str, str]] | None = None


class JobMetrics(Body):
    """Seconds; null until measured."""

    queued_s: float | None = None
    vision_s: float | None = None
    answer_s: float | None = None
    explain_s: float | None = None
    total_s: float | None = None


class JobUrls(Body):
    self: str
    events: str
    cancel: str
    rerun: str
    messages: str  # of a message: those of the job that it is about


class Job(Body):
    """One image, one pipeline, one question: what is known of it so far. Unknown is null, never empty."""

    id: str
    pipeline: str
    status: JobStatus
    stage: StageName | None
    position: int | Literal["1000+"] | None
    eta_s: float | None
    progress: float
    batch_id: str | None
    entry: int | None = None  # its number in the batch's archive
    entry_name: str | None = None  # its path there
    custom_id: str | None = None  # the client's own, of the manifest or of an old client's upload
    true_label: str | None = None  # what the manifest knows it to be
    retry_of: str | None
    message_of: str | None = None  # the job that this one asks about again
    turn: int | None = None  # its number among that job's messages, from 1
    question: str | None
    lang: Lang
    age: int | None
    sex: Sex | None
    site: str | None
    metadata: dict[str, Any] | None
    input: InputInfo | None
    findings: list[Finding] | None
    grades: list[Grade] | None
    segments: list[Segment] | None
    warnings: list[Warning]
    model: UsedModel | None
    artifacts: dict[str, str]
    answer: Answer | None
    explain: Explain = "none"
    error: Problem | None
    attempts: list[AttemptInfo]
    metrics: JobMetrics
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    erased_at: datetime | None = None  # what it was about is gone for good; the bare row stays
    urls: JobUrls


class JobList(Body):
    items: list[Job]
    next: str | None


class LabelInfo(Body):
    """A label's code, its name in every language, and its colour in masks and overlays as #rrggbb."""

    code: str
    en: str
    ko: str
    fr: str
    colour: str | None = None


class HeadInfo(Body):
    """One question to one network, and the labels it answers with; a pipeline works without an optional one."""

    kind: Literal["classify", "grade", "segment"]
    optional: bool = False
    weights: str
    labels: list[LabelInfo]
    grades: list[LabelInfo]


class PipelineUrls(Body):
    self: str
    card: str


class PipelineInfo(Body):
    """A question that can be asked of an image; `reason` says why it is not available."""

    name: str
    title: LabelInfo
    modality: str
    sites: list[str]
    labels: list[LabelInfo]
    heads: list[HeadInfo]
    available: bool
    reason: str | None
    train_command: str | None
    urls: PipelineUrls


class PipelineDetail(PipelineInfo):
    card: ModelCard | None


class PipelineList(Body):
    items: list[PipelineInfo]
    next: str | None = None


class MessageRequest(Request):
    """What is asked again about a job."""

    text: Annotated[
        str,
        AfterValidator(clean_text),
        AfterValidator(not_blank),
        Field(
            min_length=1,
            max_length=QUESTION_LIMIT,
            json_schema_extra={"pattern": r"^[^\u0000]*[^\u0000\s][^\u0000]*$"},
        ),
    ]
    lang: Lang | None = None  # by default the text's
    external: bool = True  # false: no language model sees it; nor does one where the job said so


class NetworkAgreement(Body):
    """How often reviews agree with one network, whatever it found."""

    pipeline: str
    model: str | None
    version: str | None
    sha256: str | None
    reviewed: int
    agreed: int
    disagreed: int
    share: float
    interval: tuple[float, float]  # of 95 %
    instead: dict[str, int]  # what it was said to be, the most frequent first


class AgreementInfo(NetworkAgreement):
    """How often reviews agree with one label of one network."""

    label: str | None  # the first finding's; null where nothing was named


class AgreementList(Body):
    items: list[AgreementInfo]
    networks: list[NetworkAgreement]
    next: str | None = None


class ModelUsage(Body):
    """What one language model took in a month."""

    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None  # in the currency of the server's prices; null: it knows none for this model


class Usage(Body):
    """What language models took for an owner's jobs in a month, and how much they may."""

    month: str
    tokens: int
    cap: int | None  # tokens a month; null: none
    cost: float | None  # null when a model has no price
    items: list[ModelUsage]


class ReviewRequest(Request):
    """A clinician's word on what was found: right, or not and what it is instead."""

    verdict: Literal["agree", "disagree"]
    label: Text | None = None
    note: Annotated[Text, Field(max_length=NOTE_LIMIT)] | None = None

    @model_validator(mode="after")
    def only_who_disagrees_knows_better(self) -> "ReviewRequest":
        if self.verdict == "agree" and self.label is not None:
            raise ValueError("label goes with the verdict disagree")
        return self


class Review(Body):
    """One word on a job's findings; it is never changed, and the last one counts."""

    id: str
    verdict: Literal["agree", "disagree"]
    label: str | None
    note: str | None
    created_at: datetime


class ReviewList(Body):
    items: list[Review]
    next: str | None = None


class AboutModel(Body):
    """A language model that writes answers, and the host that runs it."""

    name: str
    host: str


class AboutLimits(Body):
    image_bytes: int
    image_pixels: int
    archive_bytes: int
    archive_entries: int
    question_characters: int


class About(Body):
    """What a client should know before it asks; `language_models` names whoever may see it, the first one first."""

    version: str
    auth: str
    languages: list[Lang]
    language_models: list[AboutModel]
    limits: AboutLimits
