"""A recipe: one YAML file that says everything about a distillation, as frozen dataclasses.

Unknown keys, wrong types and impossible values are refused with the line number and the nearest
known key. Paths in a recipe are relative to the directory the verb is started in; those of `data`
to its `--data` folder.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from edge_runtime.config.checks import check_range
from edge_runtime.system.strict_yaml import parse, read_text

TEXT_BANK = "../shared/weights/clip_vitb32_text_bank.npy"


@dataclass(frozen=True)
class TeacherRecipe:
    """Who teaches. `name` is what teachers.load_teacher takes; `weights` is the folder of the text
    rows, and of what the offline teacher reads.

    members: the ImageNet classifiers the offline teacher asks; it answers with their mean.
    words: the kinds of words whose genuine text rows it knows, all where it is empty; text/rows.py
        names them. Every other phrase gets an estimated row.
    scenes: the .npz of a scene classifier, see teachers/scenes.py; it looks at the pictures of
        sources with `scene`, and losses.posterior weighs what it says.
    """

    name: str
    weights: str = "../shared/weights"
    words: tuple[str, ...] = ()
    scenes: str = ""
    members: tuple[str, ...] = ("mobilenet_v2",)


@dataclass(frozen=True)
class HeadRecipe:
    """The projection head.

    kind "mlp": `depth` linear layers (1 = no hidden layer), `width` wide in between, random at
    first. kind "classifier": the checkpoint's own ImageNet classifier, put into the text space (see
    zero_shot.py) by the text rows in the folder `texts`. `rank`: the linear layer beside it is a
    product of two of this rank (0: whole). `correction`: train nothing of the head but a linear map
    behind it, which tools.export folds into its last layers.
    """

    kind: Literal["mlp", "classifier"] = "mlp"
    depth: int = 2
    width: int = 1024
    activation: Literal["relu", "relu6", "gelu", "silu"] = "relu"
    dropout: float = 0.0
    texts: str = "../shared/weights"
    rank: int = 0
    correction: bool = False

    def __post_init__(self) -> None:
        check_range("head.depth", self.depth, 1, 8)
        check_range("head.width", self.width, 8, 16384)
        check_range("head.dropout", self.dropout, 0, 0.9)
        check_range("head.rank", self.rank, 0, 4096)


@dataclass(frozen=True)
class StudentRecipe:
    """Who learns; its first `frozen` layers are not trained.

    pretrained: what weights.read_state takes, a MobileNetV2 .npz, or "bundle:DIR": backbone and
        head of a bundle's int8 encoder, on which the training then goes on.
    flavour: which MobileNetV2 checkpoint an .npz is, see mobilenet.py; it decides normalisation and
    padding.
    """

    name: str
    pretrained: str = ""
    flavour: Literal["torchvision", "tfslim"] = "torchvision"
    head: HeadRecipe = field(default_factory=HeadRecipe)
    frozen: int = 0


@dataclass(frozen=True)
class SourceRecipe:
    """One set of pictures.

    kind: "folder" (searched for pictures), "csv" (columns file, and optionally label, text,
        condition; partner and modality for the infrared or depth picture of the same scene; split,
        as tools.curate writes it) or "tar" (WebDataset shards, `path` may hold * and ?; NAME.txt is
        the text of NAME.jpg, NAME.cls its label).
    label: "" for none, "folder" for the first folder of the relative path, else a regular
        expression with one group, searched for in the relative path.
    list: for "csv", a list that is kept elsewhere (relative to the start directory); `path` is then
        the folder its files are relative to.
    texts: a YAML or JSON mapping from label to what goes into the templates, or to a list of whole
        prompts; without it, the label itself.
    templates: the text of a picture is the mean of these prompts.
    group: texts compete within their group only, as labels do in the runtime; a picture may stand
        in one source with its object and in another with its weather.
    weight: how often a picture of this source is drawn, relative to the others.
    conditions: whether synthetic camera conditions may be laid over these pictures.
    condition: what all these pictures really show, e.g. "fog".
    scene: whether the scene classifier of the teacher looks at these pictures.
    validation: the share held out; 1 for a source that is never trained on.
    targets: an .npz of genuine teacher embeddings (`image_embeddings`, `file_name`) in place of the
    teacher's.
    only: for "folder", a regular expression; pictures whose relative path it does not match are
        left out.
    limit: take at most this many pictures, spread evenly; 0 takes all.
    """

    name: str
    path: str
    kind: Literal["folder", "csv", "tar"] = "folder"
    list: str = ""
    only: str = ""
    label: str = ""
    texts: str = ""
    templates: tuple[str, ...] = ("a photo of a {}",)
    group: str = "labels"
    weight: float = 1.0
    conditions: bool = False
    condition: str = ""
    scene: bool = False
    validation: float = 0.03
    targets: str = ""
    limit: int = 0

    def __post_init__(self) -> None:
        check_range("weight", self.weight, 0, 1000)
        check_range("validation", self.validation, 0, 1)
        for template in self.templates:
            if template.count("{}") != 1:
                raise ValueError(f"template '{template}' must hold {{}} exactly once")


@dataclass(frozen=True)
class InputRecipe:
    """What the student sees: `size` x `size` pixels; pictures are kept decoded at `cache_size`."""

    size: int = 192
    cache_size: int = 192
    resize: Literal["squash", "crop"] = "squash"

    def __post_init__(self) -> None:
        check_range("size", self.size, 16, 1024)
        check_range("cache_size", self.cache_size, 16, 1024)


@dataclass(frozen=True)
class AugmentRecipe:
    """Strength of the augmentation; each `*_probability` is the share of views it touches.

    scale: smallest and largest share of the picture's area a crop keeps; aspect: widest change of
    its shape.
    small: a view is scaled down to between this many pixels and the input size, then up again.
    jpeg: compressed at quality 25 ... 95, at the small size where there is one.
    conditions: share of the views of sources that allow it that get one synthetic camera condition.
    negative_probability: share of the views of infrared pictures that are turned to their negative:
        some thermal cameras show heat white, others black.
    """

    scale: tuple[float, float] = (0.35, 1.0)
    aspect: float = 1.33
    flip_probability: float = 0.5
    colour: float = 0.3
    grey_probability: float = 0.05
    small: int = 24
    small_probability: float = 0.3
    jpeg_probability: float = 0.4
    noise: float = 4.0
    erase_probability: float = 0.0
    conditions: float = 0.5
    negative_probability: float = 0.3

    def __post_init__(self) -> None:
        check_range("scale", self.scale[0], 0.01, self.scale[1])
        check_range("scale", self.scale[1], self.scale[0], 1)
        check_range("aspect", self.aspect, 1, 4)
        for name in (
            "flip_probability",
            "grey_probability",
            "small_probability",
            "jpeg_probability",
            "erase_probability",
            "conditions",
            "negative_probability",
        ):
            check_range(name, getattr(self, name), 0, 1)


@dataclass(frozen=True)
class TargetsRecipe:
    """How the teacher's embeddings are cached (MobileCLIP's dataset reinforcement).

    views: augmented views of each training picture that the teacher embeds, replayed to the student
        in turn; 0: the teacher embeds the whole picture once and the student sees fresh crops of
        it.
    stem: keep what the frozen layers make of each view and start training steps there; views are
        then replayed whole. Stages of another size than `size` start at the pixels.
    size: side in pixels of what goes through the frozen layers then (0: the input size). A network
        trained on crops does best at somewhat more pixels than it was trained at (Touvron et al.,
        NeurIPS 2019).
    teacher_sees: "geometry" (crop and flip), "all" (colour, small scale and conditions too), or
        "whole": the whole picture once, whatever view of it the student gets; one teacher pass in
        place of `views`.
    condition_mix: unless it sees "all", how much of the condition's text goes into the target of a
    view with one.
    """

    views: int = 0
    stem: bool = False
    size: int = 0
    teacher_sees: Literal["geometry", "all", "whole"] = "geometry"
    condition_mix: float = 0.3

    def __post_init__(self) -> None:
        check_range("views", self.views, 0, 64)
        check_range("targets.size", self.size, 0, 1024)
        check_range("condition_mix", self.condition_mix, 0, 1)


@dataclass(frozen=True)
class LossRecipe:
    """Weights and temperatures of the terms; see losses.py for what each is. Weight 0 switches a
    term off.

    text_noise: how far, as a share of the distance between two names, the text rows of the
        contrastive and condition terms are moved in each step: phrases near a name then also serve.
    """

    contrastive: float = 1.0
    contrastive_scale: float = 50.0
    text_noise: float = 0.0
    condition: float = 0.5
    alignment: float = 1.0
    alignment_kind: Literal["cosine", "mse", "l1"] = "cosine"
    relational: float = 1.0
    posterior: float = 0.0
    posterior_scale: float = 60.0
    teacher_scale: float = 50.0
    student_scale: float = 50.0
    triplet: float = 0.0
    margin: float = 0.3


@dataclass(frozen=True)
class StageRecipe:
    """A stretch of training at one input size (small pictures first make two cores go further)."""

    epochs: float
    size: int = 0  # 0: the input size
    frozen: int = -1  # -1: as the student says


@dataclass(frozen=True)
class TrainRecipe:
    """The optimiser: AdamW, linear warm-up, cosine decay to `final_lr`, averaged weights
    (`ema`).

    seed: another order of the same pictures, for several runs from one start.
    """

    stages: tuple[StageRecipe, ...] = (StageRecipe(epochs=4.0),)
    batch: int = 64
    lr: float = 1e-3
    backbone_lr: float = 1e-4
    final_lr: float = 1e-6
    warmup: int = 100
    weight_decay: float = 0.02
    clip: float = 5.0
    ema: float = 0.998
    norm_batches: int = 8
    seed: int = 0
    checkpoint_minutes: float = 5.0

    def __post_init__(self) -> None:
        check_range("batch", self.batch, 1, 65536)
        check_range("ema", self.ema, 0, 0.99999)
        if not self.stages:
            raise ValueError("train.stages is empty; give at least one, e.g. - epochs: 4")


@dataclass(frozen=True)
class BankRecipe:
    """The sentences of the relational loss: an .npy of embeddings (with its text space), a .txt of
    phrases, or "teacher" for all genuine rows that the teacher knows."""

    path: str = TEXT_BANK
    text_space: str = "openai/clip-vit-base-patch32"
    limit: int = 0


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what weights come out, but the pictures themselves.

    disclosure: for the model card, what was done after a look at pictures it is judged by.
    """

    name: str
    teacher: TeacherRecipe
    student: StudentRecipe
    data: tuple[SourceRecipe, ...]
    version: str = "0.1.0"
    description: str = ""
    licences: tuple[str, ...] = ()
    disclosure: str = ""
    seed: int = 0
    input: InputRecipe = field(default_factory=InputRecipe)
    augment: AugmentRecipe = field(default_factory=AugmentRecipe)
    targets: TargetsRecipe = field(default_factory=TargetsRecipe)
    bank: BankRecipe = field(default_factory=BankRecipe)
    losses: LossRecipe = field(default_factory=LossRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("data is empty; give at least one source of pictures")
        names = [source.name for source in self.data]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two sources are called '{name}'; rename one")

    @property
    def stem_size(self) -> int:
        """Side in pixels of the pictures whose stems are kept."""
        return self.targets.size or self.input.size

    def without_labels(self) -> Recipe:
        """The recipe as far as it decides views and what a teacher says of them.

        Labels and their text rows, and how often a source is drawn, change neither.
        """
        return replace(
            self,
            teacher=replace(self.teacher, words=(), scenes=""),
            data=tuple(
                replace(
                    source,
                    label="",
                    texts="",
                    templates=("{}",),
                    group="",
                    weight=1.0,
                    scene=False,
                )
                for source in self.data
            ),
        )

    def digest(self, *parts: str) -> str:
        """12 hex digits over the named parts ("data", "input", ...), or over the whole recipe."""
        values = asdict(self)
        chosen = {part: values[part] for part in parts} if parts else values
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:12]


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe. Raises NoInputError when it is missing, ConfigError (with the line) when it is
    wrong."""
    return parse(read_text(Path(path), "recipe"), str(path), Recipe)
