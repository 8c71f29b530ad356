"""A generated person in place of the person."""

from dataclasses import fields, replace

import torch
from torch import Tensor

from anonymization.generators.base import Context, Generator
from anonymization.methods.base import Crops
from anonymization.options import Generators
from errors import UserError


class Realistic:
    """Replaces people by those that a generator draws into their surroundings: a `CropMethod`.

    The generator is given a `Context`, so the result does not depend on the pixels that are replaced. It runs in
    bfloat16 on CUDA (float16 where the device has no bfloat16), in float32 elsewhere, whatever the caller's autocast.

    Args:
        generator: What draws the people.
        chunk: People at once, at most; halved whenever the device's memory does not suffice.
    """

    def __init__(self, generator: Generator, chunk: int = Generators.chunk) -> None:
        self.generator = generator
        self.chunk = chunk
        self._device: torch.device | None = None

    @torch.no_grad()
    def __call__(self, crops: Crops) -> Tensor:
        """Replace people: uint8 [P, 3, h, w], the crops' own pixels outside the masks.

        Raises:
            UserError: The generator is for crops of another size.
            RuntimeError: What it returned is no image; or memory does not suffice for one person.
        """
        size, device = tuple(crops.images.shape[2:]), crops.images.device
        if tuple(self.generator.crop) != size:
            theirs, ours = (f"{height} × {width}" for height, width in (self.generator.crop, size))
            raise UserError(f"generator {self.generator.name} is for crops of {theirs} pixels: these are of {ours}")
        if device != self._device:
            self.generator, self._device = self.generator.to(device), device

        results = torch.empty_like(crops.images)
        start = 0
        while start < len(crops):
            some = _people(crops, slice(start, start + self.chunk))
            try:
                results[start : start + len(some)] = self.replace(some)
            except torch.cuda.OutOfMemoryError:
                if len(some) == 1:
                    raise
                self.chunk = len(some) // 2
            else:
                start += len(some)
        return results

    def replace(self, crops: Crops) -> Tensor:
        """Replace as many people as fit into memory at once: uint8 [P, 3, h, w]."""
        with precision(crops.images.device):
            generated = self.generator(Context.of(crops))
        return composite(checked(generated, crops.masks), crops)


def precision(device: torch.device) -> torch.autocast:
    """The precision that generators run in."""
    bfloat16 = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, torch.bfloat16 if bfloat16 else torch.float16, enabled=device.type == "cuda")


def checked(generated: Tensor, masks: Tensor) -> Tensor:
    """What a generator returned, as float32 within [-1, 1], if it is an image wherever it is used.

    Args:
        generated: What should be float [P, 3, h, w].
        masks: bool [P, 1, h, w].

    Raises:
        RuntimeError: It has another shape, or is not finite inside the masks.
    """
    expected = (len(masks), 3, *masks.shape[2:])
    if tuple(generated.shape) != expected:
        raise RuntimeError(f"the generator returned {list(generated.shape)}: expected {list(expected)}")
    if not generated.isfinite().logical_or(~masks).all():
        raise RuntimeError("the generator returned values that are not finite")
    return generated.float().clamp(-1, 1)


def composite(generated: Tensor, crops: Crops) -> Tensor:
    """Put generated people, float [P, 3, h, w] in [-1, 1], among the pixels outside the masks: uint8."""
    return torch.where(crops.masks, ((generated + 1) * 127.5).round().to(torch.uint8), crops.images)


def _people(crops: Crops, people: slice) -> Crops:
    return replace(crops, **{field.name: getattr(crops, field.name)[people] for field in fields(crops)})
