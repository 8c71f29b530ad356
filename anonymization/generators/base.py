"""What a generator is told of the people it replaces, and what it must be able to do."""

from dataclasses import dataclass, fields
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from anonymization.methods.base import Crops


@dataclass(frozen=True)
class Context:
    """All that a generator is told of P people: nothing of it depends on the pixels that are replaced.

    Attributes:
        images: float32 [P, 3, h, w] in [-1, 1], 0 where ``masks``.
        masks: bool [P, 1, h, w], True on the pixels to generate.
        bodies: bool [P, 1, h, w], True on the person: ``masks`` before their dilation. Of a face its mask.
        keypoints: float32 [P, 17, 3]: x and y in crop pixels, and 1 where the keypoint is known, else 0.
        seeds: int64 [P], on the CPU.
    """

    images: Tensor
    masks: Tensor
    bodies: Tensor
    keypoints: Tensor
    seeds: Tensor

    @classmethod
    def of(cls, crops: Crops) -> Self:
        """Take from crops what a generator may know."""
        images = (crops.images.float() / 127.5 - 1).masked_fill(crops.masks, 0)
        return cls(images, crops.masks, crops.bodies, crops.keypoints, crops.seeds)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, people: slice | Tensor) -> Self:
        """The context of some of the people."""
        return type(self)(*(getattr(self, field.name)[people] for field in fields(self)))


class Generator(Protocol):
    """Draws people into their surroundings.

    Attributes:
        crop: Height and width of the crops that it works on.
        name: What tells it from any other, for manifests: where it comes from, and a hash of its weights.
    """

    crop: tuple[int, int]
    name: str

    def to(self, device: torch.device) -> Self:
        """Move it to a device."""
        ...

    def __call__(self, context: Context) -> Tensor:
        """Generate the people: float32 [P, 3, h, w] in [-1, 1]. What lies outside the masks is not looked at."""
        ...


@runtime_checkable
class LatentGenerator(Generator, Protocol):
    """A generator whose people are points of a latent space, among which one can search.

    ``generator(context)`` is ``generator.decode(generator.encode(context), generator.latents(context.seeds))``.
    """

    def latents(self, seeds: Tensor) -> Tensor:
        """Each person's truncated latent, of its seed (int64 [P]) alone: float32 [P, D] on the generator's device."""
        ...

    def encode(self, context: Context) -> tuple[Tensor, ...]:
        """What ``decode`` needs beside the latent, computed once: tensors [P, ...]."""
        ...

    def decode(self, encoded: tuple[Tensor, ...], latents: Tensor) -> Tensor:
        """Generate people from latents, differentiably: float32 [P, 3, h, w] in [-1, 1]."""
        ...
