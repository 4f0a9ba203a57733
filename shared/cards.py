"""Model cards: what a set of trained weights promises, and the check that the file beside it agrees."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.catalog import Head, HeadKind
from shared.errors import CardMismatch

Probability = Annotated[float, Field(ge=0, le=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Preprocess(_Frozen):
    """Array to tensor: a part of the picture, resized to `size_px` squared, then (x/255 - mean) / std.

    `center_square` takes the largest centred square. `whole` stretches the whole picture, so that a mask can
    cover all of it. `tiles` resizes nothing: a segment head sees squares of the picture that overlap by
    `overlap_px`.
    """

    size_px: int = Field(ge=32, le=2048)
    crop: Literal["center_square", "whole", "tiles"] = "center_square"
    overlap_px: int = Field(default=0, ge=0)
    interpolation: Literal["bilinear"] = "bilinear"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @model_validator(mode="after")
    def _tiles_advance(self) -> Self:
        if self.overlap_px >= self.size_px:
            raise ValueError("overlap_px must be smaller than size_px")
        return self


class Architecture(_Frozen):
    """Which network the weights fit: `source` is the package, `name` its own name for it."""

    source: Literal["timm", "smp", "medq", "torchvision"] = "timm"
    name: str
    options: dict[
        str, Any
    ] = {}  # what the package's constructor is given besides, such as smp's encoder_name
    pretrained: str | None = None  # where its first weights came from, in words


class Interval(_Frozen):
    """A figure with its 95 % bootstrap interval, resampled over lesions."""

    value: float
    low: float
    high: float


class LabelMetrics(_Frozen):
    """How one label does at its own threshold, each one against the rest; None where no picture can tell."""

    support: int
    sensitivity: Interval | None
    specificity: Interval | None


class Metrics(_Frozen):
    """The figures of one split; probabilities as served, thresholds and temperature from `val`."""

    split: str
    images: int
    lesions: int
    accuracy: Interval
    balanced_accuracy: Interval
    macro_precision: Interval
    macro_recall: Interval
    macro_f1: Interval
    macro_auc: Interval
    calibration_error: Interval
    labels: dict[str, LabelMetrics]
    confusion: list[list[int]]  # rows: truth, columns: top label, both in the card's label order


class SegmentLabelMetrics(_Frozen):
    """How well one label's area is outlined, over the pictures that have it or were said to.

    Hausdorff distances are in pixels of the mask as it was stored, and only over pictures that have both.
    """

    support: int  # pictures that have the label
    dice: Interval
    iou: Interval
    hausdorff95_px: Interval | None


class SegmentMetrics(_Frozen):
    """The figures of hard masks in the size of the stored ones; means of pictures, then of labels."""

    split: str
    images: int
    groups: int
    mean_dice: Interval  # without background
    mean_dice_with_background: Interval
    mean_iou: Interval
    mean_iou_with_background: Interval
    thresholded_jaccard: Interval  # mean IoU of a picture, 0 where it is below 0.65; without background
    labels: dict[str, SegmentLabelMetrics]  # background included


class ConditionMetrics(_Frozen):
    """How one condition is graded."""

    support: tuple[int, ...]  # pictures of each grade
    accuracy: Interval
    balanced_accuracy: Interval
    macro_f1: Interval
    macro_auc: Interval
    quadratic_kappa: Interval
    calibration_error: Interval
    confusion: list[list[int]]  # rows: truth, columns: most probable grade


class GradeMetrics(_Frozen):
    """The figures of every condition; pictures that lack its grade are left out."""

    split: str
    images: int
    groups: int
    conditions: dict[str, ConditionMetrics]


class Clinical(_Frozen):
    """What age, sex and body site say for each label beside the picture: evidence, a row per value.

    A row has a number for each of the card's labels, in nats; `shared.clinical` adds up and uses them. What is
    unknown, or stands in no row, says nothing.
    """

    ages: tuple[float, ...]  # years, ascending; between two of them evidence changes evenly
    age: tuple[tuple[float, ...], ...]  # a row for each of `ages`
    sex: dict[str, tuple[float, ...]]
    site: dict[str, tuple[float, ...]]
    strength: float = Field(ge=0)  # how strongly training drew the numbers towards 0; chosen on `val`
    metrics: Metrics | None = (
        None  # with all that the data set tells; the card's own `metrics` are of pictures alone
    )
    difference: dict[str, Interval] = {}  # the former minus the latter, over the same draws of lesions

    @model_validator(mode="after")
    def _is_a_table(self) -> Self:
        if len(self.age) != len(self.ages) or list(self.ages) != sorted(set(self.ages)):
            raise ValueError("ages must ascend, each with a row")
        return self

    @property
    def rows(self) -> tuple[tuple[float, ...], ...]:
        """Every row, in the order of what `shared.clinical.encoded` answers with."""
        return (*self.age, *self.sex.values(), *self.site.values())


class Doubt(_Frozen):
    """When a classifier doubts what it is shown. Limits are from `val`; `doubt.safetensors` has the distance."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    least_sharpness: float  # log10 of the variance of the Laplacian of grey values from 0 to 1
    least_brightness: float
    greatest_brightness: float
    least_contrast: float
    least_side_px: int = Field(ge=1)
    foreign: int  # pictures of other things that the figures rest on
    auroc: Interval  # of the distance, `test` against those
    auroc_by_kind: dict[str, float]
    flagged: dict[str, dict[str, float]]  # share of val, test and foreign pictures with each warning


class Agreement(_Frozen):
    """How often a classifier says the same of one picture in two sizes."""

    pairs: int
    alike: Interval  # share of pairs with the same top label
    unseen: int  # pairs that were not in `train`
    unseen_alike: Probability | None


BFLOAT16_TOLERANCE = 0.02  # a network that deviates more is served in float32


class ModelCard(_Frozen):
    """What a set of trained weights promises."""

    name: str
    version: str
    head: HeadKind
    architecture: Architecture
    preprocess: Preprocess
    labels: tuple[str, ...]  # of a segment head, each at its mask value; the first is the background
    grades: tuple[str, ...] = ()  # of a grade head
    thresholds: dict[str, Probability] = {}  # of a classify head
    # Of a segment head: the share of the picture below which a label does not count as found. A stray pixel
    # decides nothing.
    smallest_area: dict[str, Probability] = {}
    temperature: float = Field(gt=0)
    # What bfloat16 changes on `val`, None: not measured. Of probabilities the largest change, of masks the
    # largest share of a picture's pixels that get another label.
    bfloat16_deviation: float | None = Field(default=None, ge=0)
    doubt: Doubt | None = None  # None: nothing is doubted
    clinical: Clinical | None = None  # None: findings rest on the picture alone
    largest_microbatch: int = Field(ge=1, le=1024)
    data: str
    licence: str
    training: dict[str, Any]
    metrics: Metrics | GradeMetrics | SegmentMetrics | None = None
    agreement: Agreement | None = None  # None: not measured
    weights_dtype: Literal["float16", "float32"]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _crop_suits_head(self) -> Self:
        """A mask covers the whole picture, and only a mask can be put together from tiles."""
        crop = self.preprocess.crop
        if crop == ("center_square" if self.head == "segment" else "tiles"):
            raise ValueError(f"a {self.head} head cannot work on a picture that is cropped as {crop}")
        return self

    @model_validator(mode="after")
    def _evidence_suits_labels(self) -> Self:
        if self.clinical is None:
            return self
        if self.head != "classify":
            raise ValueError(f"a {self.head} head takes no clinical data")
        if {len(row) for row in self.clinical.rows} != {len(self.labels)}:
            raise ValueError("each row of clinical evidence must have a number for each label")
        return self


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_card(folder: Path) -> ModelCard:
    """Read `card.json`, without touching the weights, so that the API can show it.

    Raises: CardMismatch if the card is missing or is not a card
    """
    try:
        return ModelCard.model_validate_json((folder / "card.json").read_bytes())
    except FileNotFoundError:
        raise CardMismatch(f"There is no card.json in {folder.name}.") from None
    except ValidationError as error:
        raise CardMismatch(f"{folder.name}/card.json is not a model card: {error}") from None


def save_card(card: ModelCard, folder: Path) -> None:
    text = json.dumps(card.model_dump(mode="json"), ensure_ascii=False, indent=1)
    (folder / "card.json").write_text(text + "\n", encoding="utf-8")


def verify(card: ModelCard, head: Head, weights: Path) -> None:
    """Refuse weights that are not the card's, and a card that is not the catalog's.

    Raises: CardMismatch naming what differs
    """
    codes = tuple(label.code for label in head.labels)
    if card.head != head.kind:
        raise CardMismatch(f"{card.name}: the card is for {card.head}, the catalog asks for {head.kind}.")
    if card.labels != codes:
        raise CardMismatch(f"{card.name}: the card's labels {card.labels} are not the catalog's {codes}.")
    if card.grades != (grades := tuple(grade.code for grade in head.grades)):
        raise CardMismatch(f"{card.name}: the card's grades {card.grades} are not the catalog's {grades}.")
    _verify_names(card, "thresholds", codes if head.kind == "classify" else ())
    _verify_names(card, "smallest_area", codes[1:] if head.kind == "segment" else ())
    if not weights.is_file():
        raise CardMismatch(f"{card.name}: {weights.name} is missing beside its card.")
    if (found := sha256_of(weights)) != card.sha256:
        raise CardMismatch(
            f"{card.name}: {weights.name} has sha256 {found}, the card promises {card.sha256}."
        )


def _verify_names(card: ModelCard, field: str, codes: tuple[str, ...]) -> None:
    if set(getattr(card, field)) != set(codes):
        raise CardMismatch(f"{card.name}: {field} must name exactly {codes}.")
