"""Image resizing, one axis at a time: as indices into the axis, or as a matrix to multiply it with."""

from enum import Enum
from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


class Interpolation(Enum):
    """How pixels are resized; the names are torchvision's and OpenCV's."""

    NEAREST = "nearest"
    BICUBIC = "bicubic"  # with antialiasing
    AREA = "area"


@lru_cache(maxsize=4096)
def nearest_indices(source: int, target: int) -> np.ndarray:
    """Source index of every target pixel under ``torch.nn.functional.interpolate(mode="nearest")``.

    Args:
        source: Length of the axis before resizing.
        target: Length after.

    Returns:
        int64 [target], non-decreasing, in [0, source). Shared between callers and therefore read-only.
    """
    # Single precision, as torch computes it: double would differ by a pixel now and then.
    indices = (np.arange(target, dtype=np.float32) * (np.float32(source) / np.float32(target))).astype(np.int64)
    indices = np.minimum(indices, source - 1)
    indices.flags.writeable = False
    return indices


def resize_matrix(source: int, target: int, interpolation: Interpolation) -> Tensor:
    """The matrix R with R @ column = the column resized from ``source`` to ``target`` pixels.

    Returns:
        float32 [target, source] on the CPU; every row sums to 1.
    """
    match interpolation:
        case Interpolation.NEAREST:
            return torch.eye(source)[torch.from_numpy(nearest_indices(source, target).copy())]
        case Interpolation.BICUBIC:
            return resize_rows(torch.eye(source), target)
        case Interpolation.AREA:
            identity = np.eye(source, dtype=np.float32)
            return torch.from_numpy(cv2.resize(identity, (source, target), interpolation=cv2.INTER_AREA))


def resize_rows(matrix: Tensor, target: int) -> Tensor:
    """Resize a float32 matrix [n, m] to [target, m], bicubic with antialiasing."""
    return F.interpolate(matrix[None, None], (target, matrix.shape[1]), mode="bicubic", antialias=True)[0, 0]
