"""A generated person in the colours of the person: matching of histograms."""

from functools import lru_cache

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from anonymization.methods.base import Crops
from anonymization.methods.realistic import Realistic

LEVELS = 256

# What the matched crop is blended in with, in crop pixels: Hukkelås & Lindseth 2023.
SIGMA = 10.0
KERNEL_SIZE = 19


class RealisticHM(Realistic):
    """As `Realistic`, then each channel's histogram matched to that of the original crop, outside pixels included.

    The matched crop is blended into the generated one, with a weight that falls from 1 on the person to 0 outside.
    Of the pixels that are replaced the result depends on nothing but their histogram.
    """

    def replace(self, crops: Crops) -> Tensor:
        """See `Realistic.replace`."""
        generated = super().replace(crops)
        matched = match_histograms(generated, crops.images)
        blended = torch.lerp(generated.float(), matched.float(), soft_masks(crops.bodies))
        return torch.where(crops.masks, blended.round().to(torch.uint8), crops.images)


def match_histograms(images: Tensor, references: Tensor) -> Tensor:
    """Map each channel's grey levels so that its histogram becomes that of the reference, as far as they can.

    The level of quantile q becomes the reference's level of quantile q, interpolated between those that occur, and
    truncated: what scikit-image's ``exposure.match_histograms`` returns for bytes, bit for bit.

    Args:
        images: uint8 [P, C, h, w].
        references: uint8 [P, C, h, w].

    Returns:
        uint8 [P, C, h, w].
    """
    source, target = _counts_up_to(images), _counts_up_to(references)  # a row for each channel of each person
    first = torch.searchsorted(target, torch.zeros_like(target[:, :1]), right=True)  # level that occurs
    below = torch.searchsorted(target, source, right=True) - 1  # level whose quantile is not above the source's
    above = (below + 1).clamp(max=LEVELS - 1)
    # Levels that do not occur have the quantile of the one before them, between which there is nothing to interpolate.
    below = torch.searchsorted(target, target.gather(1, below.clamp(min=0))).maximum(first)

    quantiles = target.double() / images[0, 0].numel()
    start, end = quantiles.gather(1, below), quantiles.gather(1, above)
    slope = torch.where(end > start, (above - below) / (end - start), 0)
    table = (slope * (source.double() / images[0, 0].numel() - start) + below).to(torch.uint8)
    return table.gather(1, images.flatten(2).flatten(0, 1).long()).view_as(images)


def _counts_up_to(images: Tensor) -> Tensor:
    """How many pixels of each channel have a level, or a lower one: int64 [P · C, 256]."""
    rows = images.flatten(2).flatten(0, 1)
    offsets = torch.arange(len(rows), device=rows.device)[:, None] * LEVELS
    return torch.bincount((rows + offsets).flatten(), minlength=len(rows) * LEVELS).view(-1, LEVELS).cumsum(1)


def soft_masks(masks: Tensor) -> Tensor:
    """Blur masks, bool [P, 1, h, w], and scale each to a maximum of 1 (0 where it is empty): float32."""
    rows, columns = (_blur(length).to(masks.device) for length in masks.shape[2:])
    blurred = rows @ masks.double() @ columns.T
    return (blurred / blurred.amax((2, 3), keepdim=True).clamp(min=1e-9)).float()


@lru_cache
def _blur(length: int) -> Tensor:
    """The blur of one axis, reflecting at its ends: float64 [length, length]."""
    return gaussian_blur(torch.eye(length, dtype=torch.float64)[None], [1, KERNEL_SIZE], [SIGMA, SIGMA])[0]
