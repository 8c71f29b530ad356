"""What a method can be. The kinds differ in what the engine may spare itself."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Fill:
    """A constant, reading no pixels.

    Attributes:
        value: Grey level, 0 to 255.
    """

    value: int


@dataclass(frozen=True)
class Separable:
    """A linear map of the crop, the same for rows and columns, given in two ways.

    Attributes:
        matrix: The map of a crop axis of n pixels, float64 [n, n]: rows are non-negative and sum to 1.
        crop: What matrix(h) @ crop @ matrix(w).T is in fewer operations: uint8 [3, h, w] to the same.
    """

    matrix: Callable[[int], Tensor]
    crop: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Crops:
    """The crops of P people, who do not meet, on one device.

    Attributes:
        images: uint8 [P, 3, h, w].
        masks: bool [P, 1, h, w], True where the result is pasted.
        bodies: bool [P, 1, h, w], True on the person: ``masks`` before their dilation. Of a face its mask.
        keypoints: float32 [P, 17, 3]: x and y in crop pixels, and 1 where the keypoint is known, else 0.
        seeds: int64 [P], on the CPU; what a random method draws the person's replacement from.
    """

    images: Tensor
    masks: Tensor
    bodies: Tensor
    keypoints: Tensor
    seeds: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same crops on a device; seeds stay in host memory."""
        return self._moved(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The same crops in page-locked memory."""
        return self._moved(Tensor.pin_memory)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, **{name: move(value) for name, value in vars(self).items() if name != "seeds"})


CropMethod = Callable[[Crops], Tensor]
"""Anything else, a function of the crops of P people at once: returns uint8 [P, 3, h, w]."""

Method = Fill | Separable | CropMethod
