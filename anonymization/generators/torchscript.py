"""A generator from a TorchScript file: anyone's model, without its code."""

import hashlib
import warnings
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from anonymization.generators.base import Context
from errors import UserError

SIGNATURE = "forward(images, masks, bodies, keypoints, seeds) -> images, as docs/generators.md describes"
PEOPLE = 3  # of the trial: a model that was traced with a fixed number of people fails it


class TorchScript:
    """Calls a scripted or traced module of P people's crops, h × w pixels::

        forward(images, masks, bodies, keypoints, seeds) -> generated

        images     float32 [P, 3, h, w] in [-1, 1], 0 where masks
        masks      float32 [P, 1, h, w], 1 on the pixels to generate, else 0
        bodies     float32 [P, 1, h, w], 1 on the person, which is masks before their dilation, else 0
        keypoints  float32 [P, 17, 3]: x and y in crop pixels (COCO's order), and 1 where the keypoint is known, else 0
        seeds      int64 [P], not negative, on the device of the images
        generated  float32 [P, 3, h, w] in [-1, 1]; what lies outside the masks is not looked at

    It must take any P, and the same input must give the same output: what is random is drawn from the seeds. It is run
    in float32, whatever the caller's autocast.

    Args:
        model: The module.
        crop: Height and width of the crops.
        name: See `Generator`.
    """

    def __init__(self, model: torch.jit.ScriptModule, crop: tuple[int, int], name: str) -> None:
        self.model = model
        self.crop = crop
        self.name = name

    def to(self, device: torch.device) -> Self:
        """See `Generator`."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def __call__(self, context: Context) -> Tensor:
        """See `Generator`."""
        with torch.autocast(context.images.device.type, enabled=False):
            generated = self.model(
                context.images.float(),
                context.masks.float(),
                context.bodies.float(),
                context.keypoints.float(),
                context.seeds.to(context.images.device),
            )
        expected = (len(context), 3, *self.crop)
        if not isinstance(generated, Tensor) or tuple(generated.shape) != expected or generated.dtype != torch.float32:
            raise UserError(f"{self.name}: returns {_described(generated)}: expected torch.float32 {list(expected)}")
        return generated.clamp(-1, 1)


def load(path: Path, crop: tuple[int, int]) -> TorchScript:
    """Read a module and try it.

    Args:
        path: A file written by ``torch.jit.save``.
        crop: Height and width of the crops it is for.

    Raises:
        UserError: The file is missing, is no TorchScript module, or is not one that `TorchScript` describes.
    """
    if not path.is_file():
        raise UserError(f"model file {path} does not exist")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch would rather see torch.export
            model = torch.jit.load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{path} is no TorchScript module: {_last_line(error)}") from None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    generator = TorchScript(model, crop, f"torchscript:{path.name}@{digest}")
    _try(generator, path)
    return generator


def _try(generator: TorchScript, path: Path) -> None:
    height, width = generator.crop
    mask = torch.ones(PEOPLE, 1, height, width, dtype=torch.bool)
    context = Context(
        torch.zeros(PEOPLE, 3, height, width), mask, mask, torch.zeros(PEOPLE, 17, 3), torch.arange(PEOPLE)
    )
    with torch.random.fork_rng(devices=[]):  # a module that draws random numbers does not change what comes after
        try:
            first, second = generator(context), generator(context)
        except (RuntimeError, torch.jit.Error) as error:
            trial = f"{PEOPLE} crops of {height} × {width} pixels"
            raise UserError(f"{path} fails on {trial}: {_last_line(error)}; expected {SIGNATURE}") from None
    # Not equal: the first runs of a module are also its profiling, after which it may be fused.
    if not torch.allclose(first, second, atol=1e-2, equal_nan=True):
        raise UserError(f"{path} gives other people each time: it must draw what is random from the seeds alone")


def _described(value: object) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _last_line(error: Exception) -> str:
    """What went wrong, below the traceback that TorchScript's messages begin with."""
    return next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__).strip()
