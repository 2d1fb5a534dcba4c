"""What one EdgeVL training reads, and how it trains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tools.factory.int8.quantise import CALIBRATORS
from tools.factory.recipe import AugmentRecipe, LossRecipe, SourceRecipe, TrainRecipe


@dataclass(frozen=True)
class PairRecipe:
    """A folder of colour pictures, one of infrared or depth with the same stems, and the labels to
    curate them with."""

    name: str
    rgb: str
    partner: str
    modality: Literal["ir", "depth"]
    labels: str
    keep: float = 0.8
    weight: float = 1.0


@dataclass(frozen=True)
class StageSettings:
    """What one stage minimises, and how."""

    losses: LossRecipe
    train: TrainRecipe


@dataclass(frozen=True)
class EdgeVLRecipe:
    """One EdgeVL training.

    colour: folders of pictures without a partner; they hold the student to what it knows, and as
        pseudo-infrared they stand in for infrared, of which there is little. Their pseudo-labels
        are those of `colour_labels`.
    evaluation: pairs inside the --eval pack, only ever measured on.
    frozen: layers that stay as they are; what they make of `views` views of each picture is
        computed once, in float32 for stage 1 and in int8 for stage 2.
    calibration: pictures that set the int8 ranges, all modalities alike.
    calibrators: of tools.quantize; the one nearest to float32 on validation pictures is kept.
    checks: how often stage 2 is judged on the validation pairs.
    soup: trainings of each stage from the same start, each in an order of its own; the mean of
    their weights is taken.
    disclosure: what was looked at that should not choose, for the model card.
    """

    name: str
    pairs: tuple[PairRecipe, ...]
    stage1: StageSettings
    stage2: StageSettings
    evaluation: PairRecipe
    colour: tuple[SourceRecipe, ...] = ()
    colour_labels: str = ""
    version: str = "0.1.0"
    seed: int = 0
    frozen: int = 4
    views: int = 3
    calibration: int = 96
    calibrators: tuple[str, ...] = ("minmax", "percentile 99.999")
    checks: int = 4
    soup: int = 1
    augment: AugmentRecipe = field(default_factory=AugmentRecipe)
    disclosure: str = ""

    def __post_init__(self) -> None:
        for name in self.calibrators:
            if name not in CALIBRATORS:
                raise ValueError(f"no calibrator '{name}'; there are: {', '.join(CALIBRATORS)}")
        if self.soup < 1:
            raise ValueError(f"soup: {self.soup}; at least 1 training makes a model")
        if self.colour and not self.colour_labels:
            raise ValueError(
                "colour needs colour_labels, a superset such as tools/recipes/supersets/road.yaml"
            )
