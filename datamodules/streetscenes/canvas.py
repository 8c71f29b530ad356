"""Filled shapes on a supersampled sheet that remembers which part of an object each pixel shows."""

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

SUPERSAMPLING = 2  # sheet pixels per picture pixel and axis; reduced by area averaging in the end
SUBPIXEL_BITS = 4  # fixed-point fraction OpenCV draws with
_FINE = 1 << SUBPIXEL_BITS
_HALF_PIXEL = np.full(2, 0.5 * _FINE - 0.5)  # OpenCV's integers are pixel centres; half a step rounds

Colour = tuple[int, int, int]
Shader = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

_TURN = np.linspace(0, np.pi, 7)
# Rows are the points of a capsule in terms of end, start, and both radii across and along.
_CAPSULE = np.zeros((14, 6))
_CAPSULE[:7, 0] = _CAPSULE[7:, 1] = 1.0
_CAPSULE[:7, 2], _CAPSULE[:7, 3] = np.cos(_TURN), np.sin(_TURN)
_CAPSULE[7:, 4], _CAPSULE[7:, 5] = np.cos(_TURN), np.sin(_TURN)
_CIRCLE_TURN = np.linspace(0, 2 * np.pi, 20, endpoint=False)
_CIRCLE = np.stack([np.cos(_CIRCLE_TURN), np.sin(_CIRCLE_TURN)], axis=1)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Blend two colours; ``share`` in [0, 1] is the weight of ``second``."""
    (r, g, b), (s, h, c) = first, second
    return round(r + (s - r) * share), round(g + (h - g) * share), round(b + (c - b) * share)


def shade(colour: Colour, factor: float) -> Colour:
    """Multiply a colour by ``factor`` >= 0, clipped at 255."""
    r, g, b = colour
    return min(255, int(r * factor + 0.5)), min(255, int(g * factor + 0.5)), min(255, int(b * factor + 0.5))


def ellipse(centre: ArrayLike, radii: ArrayLike, angle: float = 0.0) -> NDArray[np.float64]:
    """Outline of an ellipse as (20, 2) points; ``angle`` in radians."""
    points = _CIRCLE * np.asarray(radii)
    if angle:
        c, s = np.cos(angle), np.sin(angle)
        points = points @ np.array([[c, s], [-s, c]])
    return points + np.asarray(centre)


def capsule(start: ArrayLike, end: ArrayLike, start_radius: float, end_radius: float) -> NDArray[np.float64]:
    """Outline of a tapered limb with round ends as (14, 2) points."""
    (x0, y0), (x1, y1) = start, end
    length = math.hypot(x1 - x0, y1 - y0) or 1.0
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    r0, r1 = start_radius, end_radius
    return _CAPSULE @ np.array(
        [[x1, y1], [x0, y0], [-uy * r1, ux * r1], [ux * r1, uy * r1], [uy * r0, -ux * r0], [-ux * r0, -uy * r0]]
    )


def moved(points: ArrayLike, right: float, down: float) -> NDArray[np.float64]:
    """Points (..., 2) shifted in the picture."""
    return np.asarray(points) + np.array([right, down])


def smooth(points: ArrayLike, rounds: int = 2) -> NDArray[np.float64]:
    """Cut the corners of a closed outline (Chaikin 1974)."""
    points = np.asarray(points, float)
    for _ in range(rounds):
        following = np.roll(points, -1, axis=0)
        cut = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], axis=1)
        points = cut.reshape(-1, 2)
    return points


def patch(quad: ArrayLike, left: float, top: float, right: float, bottom: float) -> NDArray[np.float64]:
    """Sub-quadrilateral of ``quad`` (4, d) between fractions of its width and height.

    The corners of ``quad`` run top left, top right, bottom right, bottom left.
    """
    u = np.array([left, right, right, left])[:, None]
    v = np.array([top, top, bottom, bottom])[:, None]
    a, b, c, d = np.asarray(quad, float)
    return (1 - v) * ((1 - u) * a + u * b) + v * ((1 - u) * d + u * c)


class Sheet:
    """A transparent sheet over the whole picture, on which one object is drawn.

    All coordinates and lengths are picture pixels (floats, pixel edges at integers).

    Args:
        size: height and width of the picture in pixels.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        height, width = size
        # red, green, blue and the number of the part drawn there, 0 where nothing is
        self.pixels = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING, 4), np.uint8)

    def fill(self, points: ArrayLike, colour: Colour, part: int = 1) -> None:
        """Fill the outline ``points`` (n, 2)."""
        cv2.fillPoly(self.pixels, [_fixed(points)], (*colour, part), cv2.LINE_8, SUBPIXEL_BITS)

    def line(self, points: ArrayLike, width: float, colour: Colour, part: int = 1, closed: bool = False) -> None:
        """Draw the polyline ``points`` (n, 2), at least one sheet pixel wide."""
        thickness = max(1, round(width * SUPERSAMPLING))
        cv2.polylines(self.pixels, [_fixed(points)], closed, (*colour, part), thickness, cv2.LINE_8, SUBPIXEL_BITS)

    def hull(self, points: ArrayLike, colour: Colour, part: int = 1) -> None:
        """Fill the convex hull of ``points`` (n, 2)."""
        hull = cv2.convexHull(np.asarray(points, np.float32)).reshape(-1, 2)
        self.fill(hull, colour, part)

    def paint(self, points: ArrayLike, shader: Shader, part: int = 1) -> None:
        """Fill the outline ``points`` (n, 2) with ``shader(x, y)``, which returns (pixels, 3) colours."""
        height, width = self.pixels.shape[:2]
        corners = np.asarray(points) * SUPERSAMPLING
        x0, y0 = np.clip(np.floor(corners.min(axis=0)).astype(int) - 1, 0, (width, height))
        x1, y1 = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 2, 0, (width, height))
        if x0 >= x1 or y0 >= y1:
            return
        inside = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(inside, [_fixed(points, (x0, y0))], 1, cv2.LINE_8, SUBPIXEL_BITS)
        rows, columns = np.nonzero(inside)
        x, y = (columns + x0 + 0.5) / SUPERSAMPLING, (rows + y0 + 0.5) / SUPERSAMPLING
        region = self.pixels[y0:y1, x0:x1]
        region[rows, columns, :3] = np.clip(shader(x, y), 0, 255)
        region[rows, columns, 3] = part

    def part_at(self, point: Sequence[float]) -> int:
        """Number of the part drawn at ``point``; 0 outside the picture."""
        column, row = int(np.floor(point[0] * SUPERSAMPLING)), int(np.floor(point[1] * SUPERSAMPLING))
        height, width = self.pixels.shape[:2]
        return int(self.pixels[row, column, 3]) if 0 <= row < height and 0 <= column < width else 0


def lettering(text: str, ink: Colour, ground: Colour) -> NDArray[np.uint8]:
    """A sign (h, w, 3) that is filled by its text."""
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, 1.0, 2)
    sign = np.full((height + base + 8, width + 16, 3), ground, np.uint8)
    cv2.putText(sign, text, (8, height + 6), cv2.FONT_HERSHEY_DUPLEX, 1.0, ink, 2, cv2.LINE_AA)
    return sign


def warp_onto(target: NDArray[np.uint8], texture: NDArray[np.uint8], quad: ArrayLike) -> None:
    """Draw ``texture`` (h, w, 3) in perspective onto a sheet's pixels, as part 255, corners at ``quad`` (4, 2).

    ``quad`` is in picture pixels and runs top left, top right, bottom right, bottom left.
    """
    texture = cv2.cvtColor(texture, cv2.COLOR_RGB2RGBA)
    height, width = target.shape[:2]
    corners = np.asarray(quad, np.float64) * SUPERSAMPLING
    x0, y0 = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, (width, height))
    x1, y1 = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, 0, (width, height))
    if x1 - x0 < 1 or y1 - y0 < 1:
        return
    rows, columns = texture.shape[:2]
    source = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]], np.float32)
    moved = (corners - (x0, y0)).astype(np.float32)
    homography = cv2.getPerspectiveTransform(source, moved)
    warped = cv2.warpPerspective(
        texture,
        homography,
        (int(x1 - x0), int(y1 - y0)),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    inside = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(inside, [_fixed(quad, (x0, y0))], 1, cv2.LINE_8, SUBPIXEL_BITS)
    region = target[y0:y1, x0:x1]
    cv2.copyTo(warped, inside, region)


def _fixed(points: ArrayLike, corner: Sequence[float] = (0, 0)) -> NDArray[np.int32]:
    """Fixed-point sheet coordinates of picture points, relative to the sheet pixel ``corner``."""
    shift = _HALF_PIXEL + np.multiply(corner, _FINE) if any(corner) else _HALF_PIXEL
    return (np.asarray(points, np.float64) * (SUPERSAMPLING * _FINE) - shift).astype(np.int32)
