"""Mosaic of the crop."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

# Blocks per axis, as in the coarser of the two pixelations of Hukkelås & Lindseth's code. Theirs interpolates
# between 8 × 8 samples; this is the plain mosaic: the mean of every block.
BLOCKS = 8


@lru_cache
def mosaic_matrix(length: int) -> Tensor:
    """The mosaic of one axis of a crop: float64 [length, length], of rank ``BLOCKS``.

    What is pasted of a person therefore is a function of ``BLOCKS`` × ``BLOCKS`` colours.
    """
    means = F.adaptive_avg_pool1d(torch.eye(length, dtype=torch.float64), BLOCKS)
    return F.interpolate(means[None], length, mode="nearest")[0].T


def pixelate(crop: Tensor) -> Tensor:
    """Pixelate a crop, uint8 [3, h, w]."""
    means = F.adaptive_avg_pool2d(crop.float(), BLOCKS).round().to(torch.uint8)
    return F.interpolate(means[None], crop.shape[1:], mode="nearest")[0]
