"""A training run's settings: one small commented file in training/configs."""

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.data import BadData


class TrainConfig(BaseModel):
    """What `training/configs/*.toml` holds; skin.toml explains each number."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pipeline: str
    network: str
    pretrained: str | None = None
    seed: int
    first_px: int = Field(ge=32)
    last_px: int = Field(ge=32)
    serve_px: int = Field(ge=32)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    epochs: int = Field(ge=1)
    microbatch: int = Field(ge=2)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    drop: float = Field(ge=0, lt=1)
    drop_path: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    mixup: float = Field(ge=0)
    ema: float = Field(ge=0, lt=1)
    sampling_power: float = Field(ge=0, le=1)
    logit_adjustment: float = Field(ge=0)
    data: str
    licence: str


def load_config(path: Path) -> TrainConfig:
    """Raises: BadData naming each setting that is missing, unknown or out of range."""
    try:
        return TrainConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise BadData(f"There is no training configuration {path}.") from None
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise BadData(f"{path}: {error}") from None
