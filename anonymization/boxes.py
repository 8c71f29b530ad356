"""Crop boxes: how much of a person's surroundings a method sees.

The integer arithmetic is that of Hukkelås & Lindseth 2023, so that boxes agree to the pixel with their code.

Boxes are half-open (x0, y0, x1, y1) in image pixels; sizes are (height, width).
"""

import math

import numpy as np

from anonymization.resampling import Interpolation

# Hukkelås & Lindseth 2023, body anonymization of Cityscapes, COCO and BDD100K alike.
BODY_CROP = (288, 160)
BODY_GROWTH = 0.1  # of sqrt(height · width), added to each axis
BODY_BACKGROUND = 0.3  # least share of the crop box outside the person
BODY_MIN_AREA = 8 * 8  # px², of the crop box

# The same, face anonymization: the FDF128 crops of their face generator.
FACE_CROP = (128, 128)
FACE_GROWTH = 0.35  # of the side, added on each side

# The same, large faces that are generated once more: the FDF256 crops of their larger face generator.
REFINED_CROP = (256, 256)
REFINED_GROWTH = 0.4  # of the side, shared by both sides
REFINED_MIN_AREA = 128 * 128  # px², of the crop box with which the face was generated first

Box = tuple[int, int, int, int]


def body_crop_box(tight: Box, area: int, size: tuple[int, int]) -> Box:
    """The box a person is cropped with.

    The tight box is grown by ``BODY_GROWTH``, then to the aspect ratio of ``BODY_CROP``, then in both axes
    until the person fills at most 1 - ``BODY_BACKGROUND`` of it.

    Args:
        tight: Tight box of the person's mask, not empty.
        area: Number of mask pixels.
        size: Height and width of the image.

    Returns:
        A box that contains ``tight``. It stays inside the image where it can and leaves it where it must.
    """
    (height, width), (x0, y0, x1, y1) = size, tight
    growth = int(math.sqrt((y1 - y0) * (x1 - x0)) * BODY_GROWTH)
    x0, x1 = _grow(x0, x1, min(x1 - x0 + growth, width), width)
    y0, y1 = _grow(y0, y1, min(y1 - y0 + growth, height), height)

    aspect = BODY_CROP[0] / BODY_CROP[1]
    h, w = y1 - y0, x1 - x0
    if h / w < aspect:
        y0, y1 = _grow(y0, y1, int(w * aspect), height)
    elif h / w > aspect:
        x0, x1 = _grow(x0, x1, int(h / aspect), width)

    # Single precision, as the authors computed it: double would differ by a pixel now and then.
    h, w = y1 - y0, x1 - x0
    share = np.float32(area) / np.float32(h * w)
    if 1 - share > np.float32(BODY_BACKGROUND):
        return x0, y0, x1, y1
    scale = np.sqrt(np.float32(area) / np.float32(1 - BODY_BACKGROUND) / np.float32(h * w))
    x0, x1 = _grow(x0, x1, math.ceil(scale * np.float32(w)), width)
    y0, y1 = _grow(y0, y1, math.ceil(scale * np.float32(h)), height)
    return x0, y0, x1, y1


def _grow(start: int, end: int, length: int, limit: int) -> tuple[int, int]:
    """Grow [start, end) around its middle to ``length``, then shift it into [0, limit) as far as it fits."""
    start -= (length - (end - start)) // 2
    end = start + length
    if start < 0 and end < limit:
        start += min(-start, limit - end)
    elif start > 0 and end > limit:
        start -= min(start, end - limit)
    return start, start + length


def face_crop_box(face: Box, size: tuple[int, int]) -> Box:
    """The square box a face is cropped with.

    The shorter side of the face box is grown to the longer one, then each side by ``FACE_GROWTH``, less where
    the image is too small; the result is shifted into the image. A face box that cannot be squared inside the
    image is grown around its middle and may leave it.

    Args:
        face: Tight box of the face, not empty.
        size: Height and width of the image.

    Returns:
        A square box that contains ``face``.
    """
    x0, y0, x1, y1 = face
    w, h = x1 - x0, y1 - y0
    side = max(w, h)
    growth = min(int(side * FACE_GROWTH), (min(size) - side) // 2)
    if growth >= 0 and x0 >= 0 and y0 >= 0 and x1 <= size[1] and y1 <= size[0]:
        left, top = (
            _clamp(_clamp(start - (side - length) // 2, limit - side) - growth, limit - side - 2 * growth)
            for start, length, limit in ((x0, w, size[1]), (y0, h, size[0]))
        )
        return left, top, left + side + 2 * growth, top + side + 2 * growth
    # At least 1, or a face of one pixel would get an empty box.
    half = max(1, int(side * (1 + 2 * FACE_GROWTH) // 2))
    x, y = x0 + w // 2, y0 + h // 2
    return x - half, y - half, x + half, y + half


def refined_crop_box(face: Box) -> Box:
    """The square box a large face is cropped with to be generated once more.

    The longer side of the face box is grown by ``REFINED_GROWTH`` around the middle. Images do not limit it.

    Args:
        face: Tight box of the face, not empty.

    Returns:
        A square box that contains ``face``; may leave the image.
    """
    x0, y0, x1, y1 = face
    w, h = x1 - x0, y1 - y0
    half = max(1, int(max(w, h) * (1 + REFINED_GROWTH) // 2))
    x, y = x0 + w // 2, y0 + h // 2
    return x - half, y - half, x + half, y + half


def _clamp(value: int, upper: int) -> int:
    return min(max(value, 0), upper)


def crop_interpolation(region: str, visible: tuple[int, int], crop: tuple[int, int]) -> Interpolation:
    """How the pixels of a crop box are resized to the crop (Hukkelås & Lindseth 2023).

    Bodies: nearest when both axes are enlarged, else bicubic. Faces: bicubic when enlarged, else by area, as the
    data set of their face generator was made.

    Args:
        region: ``"body"`` or ``"face"``.
        visible: Height and width of the part of the crop box inside the image.
        crop: Height and width of the crop.
    """
    if region == "body":
        enlarged = visible[0] < crop[0] and visible[1] < crop[1]
        return Interpolation.NEAREST if enlarged else Interpolation.BICUBIC
    enlarged = visible[0] * visible[1] < crop[0] * crop[1]
    return Interpolation.BICUBIC if enlarged else Interpolation.AREA
