"""The typed schema of an experiment, and how its YAML file and overrides become one resolved `Config`.

Every key of every experiment stands here, in `anonymization.options` or `configs.generator`, with its type, meaning and
default. A file
may name a file in ``extends`` that it changes, and so may that; later sources win: schema, base, file, command line.
"""

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from anonymization.conditions import parse_condition
from anonymization.options import Generators
from configs.files import read_mapping
from configs.generator import GeneratorConfig
from errors import UserError, nearest

Schema = typing.TypeVar("Schema")

# Settings that change how a run is watched or where it runs, not what it computes.
INCIDENTAL = (
    *("output_dir", "wandb", "data.num_workers", "data.index_dir", "generators.chunk"),
    *("trainer.accelerator", "trainer.enable_progress_bar", "trainer.enable_model_summary"),
    "trainer.log_every_n_steps",
)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a nested config to dotted keys."""
    keys = {}
    for key, value in config.items():
        keys |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return keys


def without_effect(condition: str) -> tuple[str, ...]:
    """Give the beginnings of the keys that say nothing about a run of a condition."""
    generators = () if parse_condition(condition).generators else ("generators.",)
    return (*generators, "anonymization.") if condition == "original" else generators


# Least and greatest values; the seed's are NumPy's.
LIMITS = {
    "seed": (0, 2**32 - 1),
    "data.batch_size": (1, None),
    "data.num_workers": (0, None),
    "model.trainable_layers": (0, 5),
    "optimizer.lr": (0, None),
    "optimizer.momentum": (0, None),
    "optimizer.weight_decay": (0, None),
    "optimizer.steps": (1, None),
    "optimizer.batch_size": (1, None),
    "optimizer.warmup_steps": (0, None),
    "trainer.max_steps": (1, None),
    "trainer.accumulate_grad_batches": (1, None),
    "model.max_size": (1, None),
    "generator.smallest": (0, None),
    "generator.held_out": (0, 1),
    "generator.lr": (0, None),
    "generator.ema": (0, 1),
    **dict.fromkeys(
        (
            *("generator.stride", "generator.output_stride", "generator.blocks", "generator.latent", "generator.style"),
            *("generator.mapping", "generator.centers", "generator.steps", "generator.r1_every"),
            *("generator.path_length_every", "generator.samples"),
        ),
        (1, None),
    ),
}

# Arguments of Lightning's Trainer that a run has its own of, by the keys that say more of them.
TAKEN = {"callbacks": None, "default_root_dir": "output_dir", "logger": "wandb.mode", "plugins": None}


@dataclass
class StreetScenesConfig:
    """Draw StreetScenes into ``data.root`` where it is not there yet (see `datamodules.streetscenes`)."""

    train: int = 400  # images
    val: int = 100  # images
    size: list[int] = field(default_factory=lambda: [160, 320])  # height, width in pixels
    seed: int = 0
    people: bool = True  # false: the same streets without anybody


@dataclass
class DataConfig:
    """What is trained on."""

    name: str = MISSING  # the dataset as runs and tables call it
    layout: str = MISSING  # how its files lie: a key of datamodules.layouts.LAYOUTS
    root: str = MISSING  # its folder
    val_split: str = "val"  # evaluated on; train where a sample has no other
    batch_size: int = 4  # images a step and device
    num_workers: int = 2  # loader processes; 0 loads in the training process
    # albumentations transforms by name, applied to training images before anonymization: geometry only
    geometry: list[dict[str, Any]] = field(default_factory=list)
    skip_bad_images: bool = False  # list and skip missing or corrupt images instead of stopping
    ignore_classes: list[str] = field(default_factory=list)  # background in training, outputs and evaluation alike
    index_dir: str = "outputs/index"  # where what was read off the annotations is kept, for quick starts
    streetscenes: StreetScenesConfig | None = None


@dataclass
class FacesConfig:
    """Where the faces of ``face/`` conditions come from (see annotate.py)."""

    file: str | None = None  # face boxes in the authors' layout; null: the layout's own file name in data.root
    detector: str = "centerface"  # centerface, torchscript:PATH, coco-keypoints, or a file of boxes to match anew
    score: float = 0.3  # least score of a detection (Hukkelås & Lindseth 2023; Cityscapes 0.2)


@dataclass
class AnonymizationConfig:
    """How the training images are anonymized; ``condition`` says what is done."""

    # null: the run's. Another than the run's for training many times on one anonymization, as in the paper
    seed: int | None = None
    # folder that anonymize.py wrote, whose images are trained on as they are; may have {condition} (its / as -) and
    # {seed} (of the anonymization) in it. null: anonymize the batches on the device
    copy: str | None = None


@dataclass
class ModelConfig:
    """The detector under study."""

    name: str = MISSING  # one of lightning_modules.models.STOCK or SMALL
    weights: str | None = None  # what training starts from: null, imagenet (backbone), COCO_V1 and the like, a file
    trainable_layers: int = 3  # ResNet-50's stages that train when weights are given, 0-5; small models train whole
    min_size: list[int] = field(default_factory=lambda: [800])  # shortest edge: one drawn per image; last in test
    max_size: int = 1333  # longest edge at most, pixels
    # further arguments of torchvision's model; and, of the ResNet-50 ones, roi_align_v2 (bool): see docs/protocol.md
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass
class OptimizerConfig:
    """Optimizer and learning-rate schedule."""

    name: str = "sgd"  # sgd or adamw
    lr: float = 0.02
    weight_decay: float = 1e-4
    momentum: float = 0.9  # sgd only
    schedule: str = "multistep"  # multistep (with linear warm-up) or onecycle; both end with training
    steps: int | None = None  # length of training; trainer.max_steps, where given, is taken instead
    # images a step, over all devices, that lr, steps and warmup_steps are for; for other numbers they follow the linear
    # rule; null: they hold for any
    batch_size: int | None = None
    warmup_steps: int = 1000  # multistep only
    warmup_factor: float = 0.001  # multistep only: the first step's share of lr
    milestones: list[float] = field(default_factory=lambda: [0.75, 0.917])  # multistep: shares of training
    gamma: float = 0.1  # multistep: factor at each milestone


@dataclass
class WandbConfig:
    """Weights & Biases."""

    mode: str = "auto"  # online, offline, disabled; auto: online where logged in, else offline
    project: str = "anonbench"
    entity: str | None = None
    artifacts: list[str] = field(default_factory=lambda: ["results"])  # files that are uploaded: results, checkpoints
    images: bool | None = None  # upload pictures of images; null: of drawn scenes alone, as others show real people


@dataclass
class Experiment:
    """What all experiments have in common."""

    name: str = MISSING  # the experiment; by default its file's stem
    seed: int = 0
    output_dir: str = "outputs"
    data: DataConfig = field(default_factory=DataConfig)
    faces: FacesConfig = field(default_factory=FacesConfig)
    trainer: dict[str, Any] = field(default_factory=dict)  # arguments of Lightning's Trainer
    wandb: WandbConfig = field(default_factory=WandbConfig)


@dataclass
class Config(Experiment):
    """One cell of the study: dataset, condition, model, seed, and how it is trained."""

    condition: str = "original"  # see anonymization.conditions
    anonymization: AnonymizationConfig = field(default_factory=AnonymizationConfig)
    generators: Generators = field(default_factory=Generators)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    @property
    def anonymization_seed(self) -> int:
        """What people's replacements are drawn from: ``anonymization.seed``, else the run's."""
        return self.seed if self.anonymization.seed is None else self.anonymization.seed


@dataclass
class GeneratorExperiment(Experiment):
    """The training of a generator on the people of a dataset."""

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)


def load_config(path: str | Path, overrides: list[str] = (), schema: type[Schema] = Config) -> Schema:
    """Read an experiment file and command-line overrides into a resolved, checked config.

    Args:
        path: YAML file with keys of the schema and, perhaps, ``extends: FILE`` (relative to it).
        overrides: ``key=value`` or ``--key=value`` with dotted keys; values are YAML.
        schema: `Config` or `GeneratorExperiment`.

    Raises:
        UserError: for an unreadable file, an unknown key, a wrong type, an impossible condition or a
            missing value; the message names file, key, value and the nearest valid choice.
    """
    path = Path(path)
    config = OmegaConf.structured(schema)
    for source, content in _read_chain(path):
        config.name = path.stem
        _merge(config, content, str(source))
    _override(config, overrides)
    _resolve(config, str(path))
    _check(config, path)
    return typing.cast(Schema, OmegaConf.to_object(config))


def load_cell(cell: str, overrides: list[str] = ()) -> Config:
    """Read ``FILE:CONDITION``, a cell of a sweep over several experiments; see `load_config`.

    Raises:
        UserError: it has another form, or as `load_config`.
    """
    path, colon, condition = cell.rpartition(":")
    if not colon:
        raise UserError(f"--cell: '{cell}' is not of the form FILE:CONDITION, e.g. configs/quickstart.yaml:body/blur")
    return load_config(path, [f"condition={condition}", *overrides])


def trains_generator(path: str | Path) -> bool:
    """Say whether an experiment file, or one that it extends, is about a generator: a `GeneratorExperiment`.

    Raises:
        UserError: it cannot be read.
    """
    return any("generator" in content for _, content in _read_chain(Path(path)))


def split_arguments(schema: type, arguments: list[str]) -> tuple[list[str], list[str]]:
    """Tell a command's own ``key=value`` arguments, the fields of a dataclass, from those of the experiment.

    Raises:
        UserError: for a key of neither.
    """
    own, experiment = ({f.name for f in fields(s)} for s in (schema, Config))
    parts: tuple[list[str], list[str]] = [], []
    for argument in arguments:
        key = argument.removeprefix("--").partition("=")[0].partition(".")[0]
        if key not in own | experiment:
            raise UserError(f"unknown key '{key}'{nearest(key, own | experiment)}")
        parts[key in experiment].append(argument)
    return parts


def parse_arguments(schema: type[Schema], arguments: list[str]) -> Schema:
    """Read ``key=value`` or ``--key=value`` arguments into a dataclass.

    Raises:
        UserError: for an unknown key, a value of a wrong type, or one that is missing.
    """
    values = OmegaConf.structured(schema)
    _override(values, arguments)
    _resolve(values, "arguments")
    for key in sorted(OmegaConf.missing_keys(values)):
        raise UserError(f"{key}: is missing; give it as {key}=VALUE")
    return OmegaConf.to_object(values)


def _override(config: DictConfig, overrides: list[str]) -> None:
    assignments = [override.removeprefix("--") for override in overrides]
    for override, assignment in zip(overrides, assignments, strict=True):
        if not assignment.partition("=")[1] or assignment.startswith("="):
            raise UserError(f"argument '{override}' is not of the form key=value")
    try:
        config.merge_with(
            OmegaConf.merge(config, OmegaConf.from_dotlist(assignments))
        )  # at once: each merge copies all
    except (OmegaConfBaseException, yaml.YAMLError, TypeError, ValueError):
        for override, assignment in zip(overrides, assignments, strict=True):  # which one is it?
            try:
                parsed = OmegaConf.from_dotlist([assignment])
            except (OmegaConfBaseException, yaml.YAMLError) as error:
                raise UserError(f"argument '{override}': {str(error).splitlines()[0]}") from None
            _merge(config, parsed, f"argument '{override}'")


def _read_yaml(path: Path) -> DictConfig:
    return read_mapping("config", path, OmegaConf.load)


def _read_chain(path: Path) -> list[tuple[Path, DictConfig]]:
    """Read a file and those it extends, the last base first."""
    chain: list[tuple[Path, DictConfig]] = []
    while True:
        if any(path.resolve() == read.resolve() for read, _ in chain):
            raise UserError(f"{chain[0][0]}: extends: '{path.name}' extends this file in its turn")
        try:
            content = _read_yaml(path)
        except UserError as error:
            raise UserError(f"{chain[0][0]}: extends: {error}" if chain else str(error)) from None
        chain.insert(0, (path, content))
        base = content.pop("extends", None)
        if not base:
            return chain
        path = path.parent / str(base)


def _resolve(config: DictConfig, source: str) -> None:
    """Put in what ``${...}`` stands for."""
    try:
        OmegaConf.resolve(config)
    except (OmegaConfBaseException, RecursionError, TypeError, ValueError) as error:
        key = getattr(error, "full_key", None) or "a value"
        raise UserError(f"{source}: {key}: {str(error).splitlines()[0]}") from None


def _merge(config: DictConfig, content: DictConfig, source: str) -> None:
    try:
        merged = OmegaConf.merge(config, content)
    except ConfigKeyError as error:
        known = map(str, error.parent_node)
        raise UserError(f"{source}: unknown key '{error.full_key}'{nearest(str(error.key), known)}") from None
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        key = getattr(error, "full_key", None) or ".".join(map(str, content))
        reason = str(error).splitlines()[0]
        reason = "is no list; write it as [VALUE, ...]" if "is not a ListConfig" in reason else reason
        raise UserError(f"{source}: {key}: {reason}") from None
    config.merge_with(merged)


def _check(config: DictConfig, path: Path) -> None:
    for key in sorted(OmegaConf.missing_keys(config)):
        raise UserError(f"{path}: {key} has no value; set it in the file or as {key}=VALUE")
    if "condition" in config:
        parse_condition(config.condition)
    if wrong := set(config.name) & set("=<>/"):
        raise UserError(
            f"{path}: name: '{config.name}' has {min(wrong)}, which a folder or a filter of W&B cannot have"
        )
    for key, value in config.trainer.items():
        _check_trainer_argument(str(key), value)
    for key, (least, most) in LIMITS.items():
        value = OmegaConf.select(config, key)
        if value is None:
            continue
        if not isinstance(value, int | float):
            raise UserError(f"{path}: {key}: {value} is no number")
        if value < least or (most is not None and value > most):
            raise UserError(f"{path}: {key}: {value} is not {least} or more" + (f", {most} at most" if most else ""))
    if "model" in config and (not config.model.min_size or min(config.model.min_size) < 1):
        raise UserError(f"{path}: model.min_size: {list(config.model.min_size)} is no list of pixels, 1 or more")
    drawn = config.data.streetscenes
    if drawn is not None and len(drawn.size) != 2:
        raise UserError(f"{path}: data.streetscenes.size: {list(drawn.size)} is not [height, width]")
    if "generator" in config and "max_steps" in config.trainer:
        raise UserError("trainer.max_steps: of a generator generator.steps says how long it is trained")


def _check_trainer_argument(key: str, value: Any) -> None:
    # The signature is Lightning's own: a list kept here would age.
    from inspect import signature

    from pytorch_lightning import Trainer

    parameters = signature(Trainer.__init__).parameters
    if key not in parameters or key == "self":
        raise UserError(f"unknown key 'trainer.{key}'{nearest(key, set(parameters) - {'self'})}")
    if key in TAKEN:
        instead = f"; set {TAKEN[key]}" if TAKEN[key] else ""
        raise UserError(f"trainer.{key}: cannot be set, every run has its own{instead}")
    plain = (bool, int, float, str, type(None))
    allowed = [t for t in _leaves(parameters[key].annotation) if t in plain]
    if float in allowed:
        allowed.append(int)
    if not isinstance(value, plain) or not allowed:
        return  # a list, or a type that only Lightning can judge
    if type(value) not in allowed:
        names = " or ".join(sorted({t.__name__ for t in allowed}))
        raise UserError(f"trainer.{key}: '{value}' is no {names}")


def _leaves(annotation: Any) -> list[Any]:
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return [leaf for a in typing.get_args(annotation) for leaf in _leaves(a)]
    if origin is typing.Literal:
        return [type(a) for a in typing.get_args(annotation)]
    return [annotation]
