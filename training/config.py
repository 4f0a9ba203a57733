"""A training run's settings: one small commented file in training/configs."""

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.cards import Architecture, Preprocess
from shared.catalog import Pipeline
from training.samples import BadData, Dealt

CONFIGS = Path(__file__).parent / "configs"


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Augment(_Settings):
    """How far random views may leave their picture; the defaults suit dermoscopy, which has no upright side."""

    turn_deg: float = Field(default=180, ge=0, le=180)
    zoom: tuple[float, float] = (0.65, 1.05)  # share of the picture's side that stays in view
    stretch: float = Field(default=0.15, ge=0)  # of one side against the other, as a power of e
    shift: float = Field(default=0.15, ge=0, le=1)  # share of half a side
    flip: bool = True  # left to right; an X-ray's sides must not be mixed up
    elastic: float = Field(default=0.0, ge=0, le=0.5)  # largest bend, as a share of half a side
    saturation: float = Field(default=0.3, ge=0, le=1)
    contrast: float = Field(default=0.25, ge=0, le=1)
    brightness: float = Field(default=0.2, ge=0, le=1)
    balance: float = Field(default=0.08, ge=0, le=1)
    blur: float = Field(default=0.3, ge=0, le=1)  # share of pictures that are halved and enlarged again


class TrainConfig(_Settings):
    """What `training/configs/*.toml` holds; skin.toml explains each number."""

    pipeline: str
    source: Literal["timm", "smp", "medq", "torchvision"] = "timm"
    network: str
    options: dict[str, Any] = {}  # for the package's constructor, such as smp's encoder_name
    pretrained: str | None = None
    seed: int
    cache_px: int = Field(default=224, ge=32)  # the side at which pictures are held in memory
    first_px: int = Field(ge=32)
    last_px: int = Field(ge=32)
    serve_px: int = Field(ge=32)
    crop: Literal["center_square", "whole"] = "center_square"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    augment: Augment = Augment()

    epochs: int = Field(ge=1)
    microbatch: int = Field(ge=2)  # of all processes together
    learning_rate: float = Field(gt=0)
    schedule: Literal["one_cycle", "cosine", "plateau", "constant"] = "one_cycle"
    weight_decay: float = Field(ge=0)
    clip: float = Field(default=5.0, ge=0)  # largest norm of the gradient; 0: unlimited
    precision: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    drop: float = Field(ge=0, lt=1)
    drop_path: float = Field(ge=0, lt=1)
    ema: float = Field(ge=0, lt=1)
    keep_best: str | None = None  # the figure on `val` whose best epoch is kept; none: the last epoch
    patience: int = Field(default=0, ge=0)  # epochs without a better one before the run stops; 0: never
    folds: int = Field(default=0, ge=0, le=20)  # cross-validation over groups; 0: the table's split
    checkpoint_steps: int = Field(default=200, ge=1)

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)
    sampling_power: float = Field(default=0.0, ge=0, le=1)
    logit_adjustment: float = Field(default=0.0, ge=0)
    class_weights: Literal["none", "balanced"] = "none"
    clinical: bool = False  # also learn what age, sex and site say, on top of the finished network
    # The table's split; or, only to compare with published figures, a fifth held out by picture, which leaks, or by group.
    dealt: Dealt = "table"

    loss: Literal["cross_entropy_dice", "dice", "focal"] = "cross_entropy_dice"  # of masks
    loss_weights: tuple[float, ...] = ()  # of the labels of a mask; none: all 1

    data: str
    licence: str

    @model_validator(mode="after")
    def _agrees(self) -> "TrainConfig":
        if self.patience and not self.keep_best:
            raise ValueError("patience needs keep_best: the figure that has to get better")
        if self.schedule == "plateau" and not self.keep_best:
            raise ValueError("the schedule plateau needs keep_best: the figure that has to get better")
        if self.clinical and self.folds:
            raise ValueError("clinical needs a split into train, val and test, not folds")
        return self

    @property
    def leaky(self) -> bool:
        """Whether pictures of a group may stand in `train` and among those that are measured."""
        return self.dealt == "fifth_by_picture"

    @property
    def architecture(self) -> Architecture:
        return Architecture(
            source=self.source, name=self.network, options=self.options, pretrained=self.pretrained
        )

    def preprocess(self, size_px: int | None = None) -> Preprocess:
        """As the worker will prepare pictures, or the same part of them at another size."""
        return Preprocess(size_px=size_px or self.serve_px, crop=self.crop, mean=self.mean, std=self.std)


def shipped(pipeline: Pipeline) -> Path:
    """The folder from which workers take the weights of the pipeline's first head."""
    return CONFIGS.parents[1] / "workers/models" / pipeline.heads[0].weights


def recipe_of(pipeline: Pipeline) -> Path:
    """The pipeline's own recipe, or the one for its kind of head, which suits any data and is tuned to none."""
    own = CONFIGS / f"{pipeline.name}.toml"
    return own if own.is_file() else CONFIGS / "any" / f"{pipeline.heads[0].kind}.toml"


def load_config(path: Path, pipeline: str | None = None) -> TrainConfig:
    """The recipe in `path`; `pipeline` is for one that names none.

    Raises: BadData naming each setting that is missing, unknown or out of range
    """
    named = {"pipeline": pipeline} if pipeline else {}
    try:
        return TrainConfig.model_validate(named | tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise BadData(f"There is no training configuration {path}.") from None
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise BadData(f"{path}: {error}") from None
