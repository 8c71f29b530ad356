"""Linear maps of image axes whose matrices are banded: a part of the result is computed from few of the inputs."""

import math
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


class Part(NamedTuple):
    """A part of a band's rows, cut into blocks that leave out most of its zeros.

    Attributes:
        blocks: The blocks from top to bottom, each with the part of the vector it multiplies.
        shape: Length of the product, and of the vector.
    """

    blocks: list[tuple[Tensor, slice]]
    shape: tuple[int, int]


class Plan(NamedTuple):
    """What it takes to compute a part of one axis.

    Attributes:
        source: The necessary part of the source axis.
        parts: The necessary part of each map, in order of application.
    """

    source: slice
    parts: list[Part]


# Rows of a block. Smaller ones leave out more zeros and take more calls.
_BLOCK = 96


def plan(bands: Sequence[Band], wanted: slice, offset: int, length: int) -> Plan:
    """Find what of a chain of maps it takes to compute a part of its result.

    Args:
        bands: The maps, in order of application.
        wanted: The part of the last one's result; not empty.
        offset: Where on the source axis the first column of the first map is; may be negative.
        length: Of the source axis; the source is zero outside.
    """
    parts = []
    for band in reversed(bands):
        needed = slice(band.start[wanted.start], band.stop[wanted.stop - 1])
        if band is bands[0]:
            needed = slice(max(needed.start, -offset), min(needed.stop, length - offset))
        count = wanted.stop - wanted.start
        size = math.ceil(count / math.ceil(count / _BLOCK))
        blocks = []
        for start in range(wanted.start, wanted.stop, size):
            stop = min(start + size, wanted.stop)
            # Empty where the block's part of the source is all outside.
            first = min(max(band.start[start], needed.start), needed.stop)
            last = max(min(band.stop[stop - 1], needed.stop), first)
            blocks.append((band.matrix[start:stop, first:last], slice(first - needed.start, last - needed.start)))
        parts.append(Part(blocks, (count, needed.stop - needed.start)))
        wanted = needed
    return Plan(slice(wanted.start + offset, wanted.stop + offset), parts[::-1])


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
    for row, column in zip(rows.parts, columns.parts, strict=True):
        row_cost, column_cost = (sum(block.numel() for block, _ in part.blocks) for part in (row, column))
        (a, h), (b, w) = row.shape, column.shape
        if row_cost * w + column_cost * a < column_cost * h + row_cost * b:
            x = _map_columns(_map_rows(x, row), column)
        else:
            x = _map_rows(_map_columns(x, column), row)
        x = x.round_().clamp_(0, 255)
    return x


def _map_rows(x: Tensor, part: Part) -> Tensor:
    products = [block @ x[:, interval] for block, interval in part.blocks]
    return products[0] if len(products) == 1 else torch.cat(products, dim=1)


def _map_columns(x: Tensor, part: Part) -> Tensor:
    products = [x[:, :, interval] @ block.T for block, interval in part.blocks]
    return products[0] if len(products) == 1 else torch.cat(products, dim=2)
