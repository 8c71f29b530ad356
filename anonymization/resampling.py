"""Image resizing: of images, or of one axis as indices into it or as a matrix to multiply it with."""

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
        float64 [target, source] on the CPU; every row sums to 1.
    """
    match interpolation:
        case Interpolation.NEAREST:
            return torch.eye(source, dtype=torch.float64)[torch.from_numpy(nearest_indices(source, target).copy())]
        case Interpolation.BICUBIC:
            return resize_rows(torch.eye(source, dtype=torch.float64), target)
        case Interpolation.AREA:
            identity = np.eye(source)
            return torch.from_numpy(cv2.resize(identity, (source, target), interpolation=cv2.INTER_AREA))


def resize_rows(matrix: Tensor, target: int) -> Tensor:
    """Resize a floating-point matrix [n, m] to [target, m], bicubic with antialiasing."""
    return F.interpolate(matrix[None, None], (target, matrix.shape[1]), mode="bicubic", antialias=True)[0, 0]


def resize(image: Tensor, size: tuple[int, int], interpolation: Interpolation) -> Tensor:
    """Resize an image, uint8 [3, H, W] to uint8 [3, h, w].

    Bicubic: on a CPU torch has a kernel for bytes, which rounds after each axis; elsewhere the result is rounded once.
    """
    on_cpu = image.device.type == "cpu"
    match interpolation:
        case Interpolation.NEAREST:
            rows, columns = (nearest_indices(n, m) for n, m in zip(image.shape[1:], size, strict=True))
            if on_cpu:
                return _interleaved(image.numpy()[:, rows][:, :, columns])
            rows, columns = (torch.tensor(indices, device=image.device) for indices in (rows, columns))
            return image[:, rows[:, None], columns]
        case Interpolation.BICUBIC:
            if on_cpu:
                image = image if image.permute(1, 2, 0).is_contiguous() else _interleaved(image.numpy())
            else:
                image = image.float()
            resized = F.interpolate(image[None], size, mode="bicubic", antialias=True)[0]
            return resized if on_cpu else resized.round().clamp(0, 255).to(torch.uint8)
        case Interpolation.AREA:
            if on_cpu:
                image = cv2.resize(cv2.merge(list(image.numpy())), size[::-1], interpolation=cv2.INTER_AREA)
                return torch.from_numpy(image).permute(2, 0, 1)
            rows, columns = (resize_matrix(n, m, interpolation) for n, m in zip(image.shape[1:], size, strict=True))
            rows, columns = (matrix.to(image.device) for matrix in (rows, columns))
            return (rows @ image.double() @ columns.T).round().to(torch.uint8)


def _interleaved(image: np.ndarray) -> Tensor:
    """The same image with its channels last in memory, as the kernels for bytes want it."""
    # A third of the time of torch's copy.
    return torch.from_numpy(cv2.merge(list(image))).permute(2, 0, 1)
