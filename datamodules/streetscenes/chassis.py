"""Vehicle bodies in perspective: convex shapes with faces, wheels, glass, lamps and lettering."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .canvas import Colour, Sheet, lettering, mix, patch, warp_onto
from .optics import Camera, Light

PAINT = (
    (188, 40, 40), (34, 62, 120), (30, 32, 36), (240, 240, 238), (176, 180, 184), (112, 116, 122), (60, 92, 72),
    (222, 168, 44), (88, 130, 170), (120, 60, 36), (206, 196, 172), (70, 40, 70), (44, 120, 122), (214, 104, 44),
)  # fmt: skip
GLASS = (58, 72, 86)
INSIDE = (36, 44, 52)  # shapes behind the glass
TYRE = (26, 26, 28)
UNDERSIDE = (28, 28, 31)
BUMPER = (42, 42, 46)
TAIL_LIGHT = (176, 24, 24)
HEADLIGHT = (255, 250, 226)
# Arch, tyre and parts of the rim as shares of the wheel's radius.
RIM = ((1.14, (34, 34, 36)), (0.98, TYRE), (0.66, (156, 158, 162)), (0.48, (92, 94, 100)), (0.16, (190, 192, 196)))

_TURN = np.linspace(0, 2 * np.pi, 16, endpoint=False)


@dataclass(frozen=True)
class Chassis:
    """A vehicle's place: axes along (forward), across (right of it) and up from the point below its middle.

    Attributes:
        camera: the camera that sees it.
        light: the light on it.
        x: metres to the right of the camera.
        z: metres ahead of the camera.
        yaw: 0 drives away from the camera, pi / 2 to the right of the picture.
    """

    camera: Camera
    light: Light
    x: float
    z: float
    yaw: float

    def world(self, points: ArrayLike) -> NDArray[np.float64]:
        """World coordinates of points (n, 3) of along, across, up."""
        return np.asarray(points, float) @ self._turn + self._place

    @cached_property
    def _turn(self) -> NDArray[np.float64]:
        s, c = math.sin(self.yaw), math.cos(self.yaw)
        return np.array([[s, 0.0, c], [c, 0.0, -s], [0.0, 1.0, 0.0]])

    @cached_property
    def _place(self) -> NDArray[np.float64]:
        return np.array([self.x, 0.0, self.z])

    def __call__(self, points: ArrayLike) -> NDArray[np.float64]:
        """Picture pixels (n, 2) of points (n, 3) of along, across, up."""
        return self.camera.project(self.world(points))

    def seen(self, quad: ArrayLike) -> tuple[float, float, float] | None:
        """Unit normal of a face if the camera sees its outside, whose corners run clockwise; else None."""
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = self.world(quad[:3]).tolist()
        ux, uy, uz, vx, vy, vz = bx - ax, by - ay, bz - az, cx - bx, cy - by, cz - bz
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        if nx * -ax + ny * (self.camera.height - ay) + nz * -az <= 0:
            return None
        length = math.sqrt(nx * nx + ny * ny + nz * nz) or 1.0
        return nx / length, ny / length, nz / length


@dataclass
class Body:
    """Draws the parts of one vehicle onto its sheet.

    Attributes:
        sheet: where it is drawn.
        at: where it stands.
    """

    sheet: Sheet
    at: Chassis

    def face(self, quad: ArrayLike, colour: Colour) -> None:
        """Draw a flat face under its light, unless it is turned away."""
        normal = self.at.seen(quad)
        if normal is not None:
            self.sheet.fill(self.at(quad), self.at.light.on(colour, normal))

    def fill(self, points: ArrayLike, colour: Colour) -> None:
        """Fill a flat outline (n, 3) in one colour."""
        self.sheet.fill(self.at(points), colour)

    def line(self, points: ArrayLike, width: float, colour: Colour) -> None:
        """Draw a line of ``width`` metres."""
        self.sheet.line(self.at(points), width * self.at.camera.focal / self.at.z, colour)

    def underside(self, rear: float, front: float, half: float, low: float, high: float) -> None:
        """The dark box between the wheels."""
        sides = [side_quad(side, rear, front, half, low, high) for side in (-1, 1)]
        self.sheet.hull(self.at(np.concatenate(sides)), UNDERSIDE)

    def flanks(
        self, rear: float, front: float, half: float, low: float, high: float
    ) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """The side, 1 right or -1 left, and rectangle of each flank that is seen."""
        for side in (-1, 1):
            flank = side_quad(side, rear, front, half, low, high)
            if self.at.seen(flank) is not None:
                yield side, flank

    def glass(self, quad: ArrayLike, sky: float = 0.35) -> None:
        """A window that reflects the sky in the upper share ``sky`` of it."""
        self.fill(quad, GLASS)
        self.fill(patch(quad, 0.0, 0.0, 1.0, sky), mix(GLASS, self.at.light.sky[1], 0.42))

    def lamps(self, quad: ArrayLike, edge: float, width: float, top: float, bottom: float, colour: Colour) -> None:
        """A lamp at each edge of a front or rear."""
        for left in (edge, 1 - edge - width):
            self.fill(patch(quad, left, top, left + width, bottom), colour)

    def plate(self, quad: ArrayLike, text: str) -> None:
        """A number plate."""
        self.write(quad, text, (20, 20, 20), (244, 244, 236))

    def prism(self, profile: ArrayLike, half_widths: float | ArrayLike, colour: Colour) -> None:
        """A convex body with the side view ``profile`` (n, 2) of along and up, clockwise seen from the right."""
        profile = np.asarray(profile, float)
        half = np.broadcast_to(half_widths, len(profile))
        left = np.stack([profile[:, 0], -half, profile[:, 1]], axis=1)
        right = np.stack([profile[:, 0], half, profile[:, 1]], axis=1)
        self.face(right, colour)
        self.face(left[::-1], colour)
        for i in range(len(profile)):
            j = (i + 1) % len(profile)
            self.face([left[i], left[j], right[j], right[i]], colour)

    def wheels(self, along: float, half: float, radius: float) -> None:
        """The tyres of one axle, to be drawn before the body."""
        for side in (-1, 1):
            tyre = [side_ring(along, side * w, radius) for w in (half, half - 0.22)]
            self.sheet.hull(self.at(np.concatenate(tyre)), TYRE)

    def near_wheel(self, along: float, half: float, radius: float) -> None:
        """The wheel in its arch on the side that is seen, to be drawn after the body."""
        for side, _ in self.flanks(0, 1, half, 0, 1):
            hub, ring = np.array([along, side * half, radius]), side_ring(along, side * half, radius)
            for share, colour in RIM:
                points = hub + (ring - hub) * share
                points[:, 2] = np.maximum(points[:, 2], 0.0)
                self.fill(points, colour)

    def write(self, quad: ArrayLike, text: str, ink: Colour, ground: Colour) -> None:
        """Letter a face."""
        warp_onto(self.sheet.pixels, lettering(text, ink, ground), self.at(quad))


def side_ring(along: float, across: float, radius: float) -> NDArray[np.float64]:
    """Circle (16, 3) of a wheel that stands on the ground."""
    return np.column_stack([along + radius * np.cos(_TURN), np.full(16, across), radius + radius * np.sin(_TURN)])


def side_quad(side: int, back: float, front: float, half: float, low: float, high: float) -> NDArray[np.float64]:
    """Rectangle on the right (1) or left (-1) side, clockwise from outside, from its top left corner."""
    a, b = (back, front) if side > 0 else (front, back)
    return np.array([[a, side * half, high], [b, side * half, high], [b, side * half, low], [a, side * half, low]])


def end_quad(end: int, along: float, half: float, low: float, high: float) -> NDArray[np.float64]:
    """Rectangle on the front (1) or rear (-1), clockwise from outside, from its top left corner."""
    w = half * end
    return np.array([[along, w, high], [along, -w, high], [along, -w, low], [along, w, low]])
