"""Gaussian blur of the crop."""

from functools import lru_cache

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

# Hukkelås & Lindseth 2023, in crop pixels.
SIGMA = 7.0
KERNEL_SIZE = 21


@lru_cache
def blur_matrix(length: int) -> Tensor:
    """The blur of one axis of a crop, reflecting at its ends: float32 [length, length].

    The kernel is cut at ±1.43 sigma, so it damps less than a Gaussian would. A frequency f (cycles per crop pixel)
    is left with at most k₀ / sin(πf) of its amplitude per axis, k₀ = 0.066 being the largest weight of the kernel;
    in fact with at most 8.1 % above f = 0.06.
    """
    return gaussian_blur(torch.eye(length)[None], [1, KERNEL_SIZE], [SIGMA, SIGMA])[0]
