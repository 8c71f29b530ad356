"""Linear maps of image axes whose matrices are banded: a part of the result is computed from few of the inputs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Band:
    """A matrix whose rows are zero except around the diagonal.

    Args:
        matrix: float32 [n, m], on the CPU; no row is all zero.
        device: Where ``matrix`` is kept.

    Attributes:
        start: For every row the first column that is not zero in it or a later row.
        stop: For every row the end of the columns that are not zero in it or an earlier row.
    """

    def __init__(self, matrix: Tensor, device: torch.device) -> None:
        nonzero = matrix.numpy() != 0
        start, stop = nonzero.argmax(axis=1), matrix.shape[1] - nonzero[:, ::-1].argmax(axis=1)
        self.matrix = matrix.to(device)
        self.start = np.minimum.accumulate(start[::-1])[::-1].tolist()
        self.stop = np.maximum.accumulate(stop).tolist()


class Plan(NamedTuple):
    """What it takes to compute a part of one axis.

    Attributes:
        matrices: The necessary part of each matrix, in order of application.
        source: The part of the source axis to apply them to.
    """

    matrices: list[Tensor]
    source: slice


def plan(bands: Sequence[Band], wanted: slice, offset: int, length: int) -> Plan:
    """Find what of a chain of maps it takes to compute a part of its result.

    Args:
        bands: The maps, in order of application.
        wanted: The part of the last one's result; not empty.
        offset: Where on the source axis the first column of the first map is; may be negative.
        length: Of the source axis; the source is zero outside.
    """
    matrices = []
    for band in reversed(bands):
        rows, wanted = wanted, slice(band.start[wanted.start], band.stop[wanted.stop - 1])
        matrices.append(band.matrix[rows, wanted])
    source = slice(max(wanted.start + offset, 0), min(wanted.stop + offset, length))
    first = wanted.start + offset
    matrices[-1] = matrices[-1][:, source.start - first : source.stop - first]
    return Plan(matrices[::-1], source)


def apply(source: Tensor, rows: Plan, columns: Plan) -> Tensor:
    """Map both axes of an image, rounding to grey levels after every pair of maps.

    Args:
        source: [3, H, W] in grey levels.
        rows: For the first axis.
        columns: For the second; as many maps.

    Returns:
        float32 [3, h, w], whole numbers in 0 to 255.
    """
    x = source[:, rows.source, columns.source].float()
    for row, column in zip(rows.matrices, columns.matrices, strict=True):
        (a, h), (b, w) = row.shape, column.shape
        rows_first = a * w * (h + b) < h * b * (w + a)  # the cheaper order
        x = (row @ x) @ column.T if rows_first else row @ (x @ column.T)
        x = x.round_().clamp_(0, 255)
    return x
