"""Small people, all of a batch at once: crop, method and paste as one matrix product per axis.

A crop box that is enlarged to the crop, mapped by a separable method and resized back is, along each axis, one linear
map of the box's pixels. The weights are rounded to multiples of 2⁻¹⁶ and the products are in double precision, where
they and their sums are exact: a person's result is the same to the last bit in any batch, on any device.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from anonymization.boxes import crop_interpolation
from anonymization.methods.base import Separable
from anonymization.resampling import resize_matrix, resize_rows

# Largest side, in pixels, of a crop box replaced here: below the crop's own sides, so that every such box is enlarged.
# The products grow with its third power; from here on resizing is as fast.
LARGEST = 112

_WEIGHT = 2**16  # weights are multiples of its inverse
_CLASSES = (32, 64, LARGEST)  # boxes up to these sides are padded to a common size
_VALUES = 2**22  # of the crop boxes of one product, which bounds the memory


class Pixels:
    """The images that are changed, in one buffer.

    Args:
        images: uint8 [3, H_i, W_i] each, on one device.
    """

    def __init__(self, images: list[Tensor]) -> None:
        # One pixel more than there are: values that belong nowhere are written to it.
        self.buffer = torch.cat([*(image.flatten() for image in images), images[0].new_zeros(1)])
        self.sizes = np.array([image.shape[1:] for image in images])
        lengths = 3 * self.sizes.prod(axis=1)
        self.starts = np.cumsum(lengths) - lengths
        self.images = [
            part.view(image.shape) for part, image in zip(self.buffer[:-1].split(lengths.tolist()), images, strict=True)
        ]


Result = tuple[Tensor, Tensor]  # values (uint8) and where they belong in the buffer (int64), of the same length


def replace(
    pixels: Pixels,
    image: np.ndarray,
    crop_boxes: np.ndarray,
    paste_boxes: np.ndarray,
    paste_masks: Tensor,
    paste_starts: np.ndarray,
    crop: tuple[int, int],
    region: str,
    method: Separable,
) -> list[Result]:
    """Compute what replaces P people, none of whose boxes is larger than ``LARGEST``.

    Args:
        pixels: The images; read, not written.
        image: int64 [P], index of each person's image.
        crop_boxes: int64 [P, 4], as in ``Regions``.
        paste_boxes: int64 [P, 4], likewise.
        paste_masks: uint8, those of all people, as in ``Regions``.
        paste_starts: int64 [P], where each person's begins.
        crop: Height and width of the crop.
        region: ``"body"`` or ``"face"``.
        method: What maps the crop.
    """
    device = pixels.buffer.device
    sides = (crop_boxes[:, 2:] - crop_boxes[:, :2]).max(axis=1)
    steering = np.column_stack([crop_boxes, paste_boxes, pixels.sizes[image], pixels.starts[image], paste_starts])
    results = []
    for smaller, side in zip((0, *_CLASSES), _CLASSES, strict=False):
        people = np.flatnonzero((sides > smaller) & (sides <= side))
        for part in np.array_split(people, -(-len(people) * 3 * side**2 // _VALUES)) if len(people) else ():
            results.append(_replace(pixels.buffer, steering[part], paste_masks, crop, region, method, device))
    return results


def _replace(
    buffer: Tensor,
    steering: np.ndarray,
    paste_masks: Tensor,
    crop: tuple[int, int],
    region: str,
    method: Separable,
    device: torch.device,
) -> Result:
    x0, y0, x1, y1, left, top, right, bottom, *_ = steering.T
    # The padded sizes: of the boxes (S × T) and of what is pasted (A × B).
    S, T, A, B = (int((stop - start).max()) for start, stop in ((y0, y1), (x0, x1), (top, bottom), (left, right)))
    height, width = steering[:, 8:10].T
    outside = bool(((x0 < 0) | (y0 < 0) | (x1 > width) | (y1 > height)).any())
    columns = torch.from_numpy(steering).to(device)[:, :, None].unbind(1)
    x0, y0, x1, y1, left, top, right, bottom, height, width, start, paste_start = columns  # [P, 1] each
    n = torch.arange(max(S, T, 3), device=device)
    channel = height * width * n[:3]

    y, x = y0 + n[:S], x0 + n[:T]
    rows = start + y.clamp(min=0).minimum(height - 1) * width
    index = rows[:, :, None, None] + channel[:, None, :, None] + x.clamp(min=0).minimum(width - 1)[:, None, None, :]
    source = buffer.index_select(0, index.view(-1)).view(index.shape).double()  # [P, S, 3, T]
    if outside:  # which is black
        source *= ((y >= 0) & (y < height))[:, :, None, None] & ((x >= 0) & (x < width))[:, None, None, :]

    along_rows, along_columns = (_table(method, length, region, device) for length in crop)
    y, x = top - y0 + n[:A], left - x0 + n[:B]
    along_rows = along_rows[y1 - y0, y.clamp(max=LARGEST - 1), :S]
    along_columns = along_columns[x1 - x0, x.clamp(max=LARGEST - 1), :T]
    values = along_rows @ source.view(-1, S, 3 * T)
    values = values.view(-1, 3 * A, T) @ along_columns.mT
    values = values.round_().clamp_(0, 255).to(torch.uint8)  # [P, A · 3, B]

    h, w = bottom - top, right - left
    inside = (n[:A] < h)[:, :, None] & (n[:B] < w)[:, None, :]
    index = torch.where(inside, (paste_start + n[:A] * w)[:, :, None] + n[:B], 0)
    pasted = inside & paste_masks.index_select(0, index.view(-1)).view(index.shape).bool()
    rows = start + (top + n[:A]) * width
    index = rows[:, :, None, None] + channel[:, None, :, None] + (left + n[:B])[:, None, None, :]
    index = torch.where(pasted[:, :, None, :], index, len(buffer) - 1)
    return values.view(-1), index.view(-1)


@lru_cache
def _table(method: Separable, crop: int, region: str, device: torch.device) -> Tensor:
    """The maps of boxes of every length up to ``LARGEST`` to themselves: float64 [length, to, from], padded with 0."""
    table = torch.zeros(LARGEST + 1, LARGEST, LARGEST, dtype=torch.float64)
    for length in range(1, LARGEST + 1):
        enlarge = resize_matrix(length, crop, crop_interpolation(region, (length, length), (crop, crop)))
        weights = (resize_rows(method.matrix(crop) @ enlarge, length) * _WEIGHT).round()
        # Rows sum to 1, so that a plain colour stays as it is; the largest weight can best bear what is missing.
        largest = weights.argmax(dim=1, keepdim=True)
        weights.scatter_add_(1, largest, _WEIGHT - weights.sum(dim=1, keepdim=True))
        table[length, :length, :length] = weights / _WEIGHT
    return table.to(device)
