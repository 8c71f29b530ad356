"""Draws heads: faces, hair, hats."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .canvas import Colour, Sheet, capsule, ellipse, mix, moved, shade, smooth
from .looks import Look
from .optics import Light
from .poses import HEAD, TRUNK

FACE_SEEN_FROM = np.radians(72)  # largest turn of a head, from the camera, whose face a detector still boxes
FACE_HALF_ANGLE = np.radians(68)  # of the face around the head, from the nose to before the ear
RIMS = (34, 34, 40)  # of glasses


class Head:
    """A head seen under its yaw; points on it are given by the angle around it (0 nose, + left) and height.

    Args:
        sheet: where it is drawn.
        look: hair, skin, hat.
        light: the light on it.
        neck: pixel of the base of the neck.
        centre: pixel of the head's middle.
        yaw: where it looks, as in ``Stance``.
        size: its height in pixels.
        unit: pixels per stature.
    """

    def __init__(
        self,
        sheet: Sheet,
        look: Look,
        light: Light,
        neck: NDArray[np.float64],
        centre: NDArray[np.float64],
        yaw: float,
        size: float,
        unit: float,
    ) -> None:
        self.sheet, self.look, self.light = sheet, look, light
        self.neck, self.centre, self.size, self.unit = neck, centre, size, unit
        self.yaw = _wrapped(yaw)
        self.half = self.size * (0.385 + 0.05 * abs(math.sin(self.yaw)))

    def fill(self, points: ArrayLike, colour: Colour) -> None:
        """Fill an outline as part of the head."""
        self.sheet.fill(points, colour, HEAD)

    def point(self, angle: float, up: float, out: float = 1.0) -> NDArray[np.float64]:
        """Pixel of the surface point at ``angle`` and height ``up`` (in heads, 0 is the middle)."""
        round_off = np.sqrt(max(0.05, 1 - (1.7 * up) ** 2)) if up > 0 else 1 - 0.55 * (up / 0.5) ** 2 * 0.6
        return moved(self.centre, out * self.half * round_off * math.sin(self.yaw + angle), -up * self.size)

    def visible(self, angle: float) -> bool:
        """Whether the surface at ``angle`` is turned to the camera."""
        return bool(np.cos(self.yaw + angle) > 0.12)

    def outline(self, grow: float = 1.0) -> NDArray[np.float64]:
        """The head with a narrower chin, which points where the head looks."""
        turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        up = 0.5 * np.sin(turn)
        chin = np.clip(-np.sin(turn), 0, 1)
        x = np.cos(turn) * (1 - 0.2 * chin**2) + 0.14 * np.sin(self.yaw) * chin
        return self.centre + np.stack([self.half * x, -up * self.size], axis=1) * grow

    def band(self, line: list[tuple[float, float]], top: float, grow: float) -> NDArray[np.float64]:
        """The part of the head above a line, given as heights over the angle away from the nose (degrees)."""
        x = np.linspace(-1, 1, 17)
        angle = np.abs(np.degrees(_wrapped(np.arcsin(x) - self.yaw)))
        degrees, heights = np.array(line).T
        lower = np.interp(angle, degrees, heights)
        upper = np.maximum(top * np.sqrt(np.clip(1 - x**2, 0, 1)), lower)
        wide = self.half * grow
        edge = np.stack([x * wide, -lower * self.size], axis=1)
        back = np.stack([x * wide, -upper * self.size], axis=1)[::-1]
        return self.centre + np.concatenate([edge, back])

    def draw(self) -> None:
        """Neck, long hair behind, head, features, hair, hat."""
        look = self.look
        skin = look.skin
        facing = np.cos(self.yaw)
        collar = moved(self.neck, 0, (0.02 if facing > 0 else -0.02) * self.unit)
        neck = capsule(collar, self.centre, 0.03 * self.unit, 0.032 * self.unit)
        if facing > -0.2:
            self.hair_behind()
        self.fill(neck, shade(skin, 0.76))
        if look.upper in ("long", "jacket", "coat", "hoodie"):
            collar = self.neck - (0, 0.012 * self.unit)
            self.sheet.fill(ellipse(collar, (0.048 * self.unit, 0.02 * self.unit)), shade(look.colour, 0.8), TRUNK)
        self.sheet.fill(self.outline(), shade(skin, 0.84), HEAD)
        lit = moved(self.outline(0.86), 0.1 * self.half * self.light.side, -0.03 * self.size)
        self.fill(lit, skin)
        self.features()
        self.hair()
        if facing <= -0.2:
            self.hair_behind()
        self.hat()

    def features(self) -> None:
        """Ears, eyes, brows, nose, mouth, beard, glasses, as far as they are turned to the camera."""
        size, look = self.size, self.look
        for angle in (-np.pi / 2, np.pi / 2):
            if np.cos(self.yaw + angle) > -0.35:
                ear = self.point(angle, -0.03, 1.04)
                self.fill(ellipse(ear, (0.055 * size, 0.1 * size)), shade(look.skin, 0.9))
                self.fill(ellipse(ear, (0.028 * size, 0.06 * size)), shade(look.skin, 0.72))
        if look.beard and np.cos(self.yaw) > -0.6:
            self.beard()
        for side in (-1, 1):
            angle = side * 0.46
            if self.visible(angle):
                self.eye(angle, max(0.35, float(np.cos(self.yaw + angle))))
        if math.cos(self.yaw) > -0.3:
            self.nose_and_mouth()

    def nose_and_mouth(self) -> None:
        """The nose in the shade of one side, and lips."""
        skin = self.look.skin
        wing = self.point(0.22 if self.yaw <= 0 else -0.22, -0.125)
        nose = [self.point(0.0, 0.04, 0.98), self.point(0.0, -0.1, 1.12), wing]
        self.fill(nose, shade(skin, 0.62 if abs(self.yaw) < 1.1 else 0.84))
        mouth = [self.point(a, 0.05 * abs(a) - 0.26, 0.98) for a in (-0.36, -0.12, 0.12, 0.36) if self.visible(a)]
        if len(mouth) > 1:
            self.sheet.line(mouth, 0.055 * self.size, mix(skin, (176, 56, 60), 0.55), HEAD)

    def eye(self, angle: float, wide: float) -> None:
        """One eye with its brow and glass, narrowed to ``wide`` by the turn of the head."""
        size, look = self.size, self.look
        at = self.point(angle, 0.03, 0.97)
        self.fill(ellipse(at, (0.075 * size * wide, 0.045 * size)), (246, 244, 240))
        self.fill(ellipse(at, (0.038 * size * max(wide, 0.6), 0.046 * size)), (44, 32, 26))
        brow = [moved(at, -0.09 * size * wide, -0.085 * size), moved(at, 0.09 * size * wide, -0.095 * size)]
        self.sheet.line(brow, 0.032 * size, mix(look.hair, (40, 30, 26), 0.4), HEAD)
        if look.glasses:
            self.sheet.line(ellipse(at, (0.12 * size * wide, 0.1 * size)), 0.022 * size, RIMS, HEAD, closed=True)
            bridge = self.point(0.0, 0.04)
            edge = moved(at, math.copysign(0.12 * size * wide, bridge[0] - at[0]), 0)
            self.sheet.line([edge, bridge], 0.02 * size, RIMS, HEAD)

    def beard(self) -> None:
        """From ear to ear around the mouth."""
        around = [a for a in np.linspace(-1.25, 1.25, 9) if math.cos(self.yaw + a) > -0.05]
        upper = np.array([self.point(a, -0.19 - 0.03 * math.cos(a * 2.2), 1.02) for a in around])
        outline = self.outline(1.02)
        lower = outline[outline[:, 1] > upper[0, 1]]
        if len(upper) > 2 and len(lower) > 2:
            upper, lower = upper[np.argsort(upper[:, 0])], lower[np.argsort(-lower[:, 0])]
            self.fill(np.concatenate([upper, lower]), self.look.hair)

    def hair(self) -> None:
        """The cap of hair, cut out over the forehead."""
        style, hair = self.look.hair_style, self.look.hair
        if style == "bald":
            fringe = [(0, 0.12), (75, 0.12), (95, -0.3), (180, -0.33)]
            self.fill(self.band(fringe, 0.12, 1.03), hair)
            return
        nape = {"short": -0.28, "curls": -0.3, "long": -0.5, "bob": -0.46, "tail": -0.32, "bun": -0.3}[style]
        temple = -0.1 if style in ("short", "tail", "bun") else nape
        line = [(0, 0.24), (38, 0.22), (62, 0.1), (78, temple), (120, nape), (180, nape)]
        grow = 1.2 if style == "curls" else 1.07
        band = self.band(line, 0.56 if style != "curls" else 0.64, grow)
        self.fill(smooth(band, 1), hair)
        shine = moved(self.band([(0, 0.4), (180, 0.36)], 0.5, 0.75), 0.12 * self.half * self.light.side, 0)
        self.fill(shine, mix(hair, (255, 255, 255), 0.14))

    def hair_behind(self) -> None:
        """Hair that hangs off the back of the head."""
        style, hair, size = self.look.hair_style, shade(self.look.hair, 0.86), self.size
        back = self.point(np.pi, 0.0, 0.45)
        if style in ("long", "bob"):
            wide = 0.5 * size if abs(math.cos(self.yaw)) > 0.5 else 0.4 * size
            crown = ellipse(moved(self.centre, 0, -0.1 * size), (wide, 0.4 * size))
            tips = ellipse(moved(back, 0, (0.75 if style == "long" else 0.36) * size), (0.8 * wide, 0.2 * size))
            self.sheet.hull(np.concatenate([crown, tips]), hair, HEAD)
        elif style == "tail":
            root = self.point(np.pi, 0.18, 1.05)
            tip = moved(root, 0.1 * size * np.sign(back[0] - self.centre[0]), 0.62 * size)
            self.fill(capsule(root, tip, 0.13 * size, 0.06 * size), hair)
        elif style == "bun":
            self.fill(ellipse(self.point(np.pi, 0.42, 0.9), (0.2 * size, 0.18 * size)), hair)

    def hat(self) -> None:
        """Hat, hood or helmet."""
        hat, colour, size = self.look.hat, self.look.hat_colour, self.size
        if hat == "none":
            return
        if hat == "hood":
            hood = self.band([(0, 0.3), (50, 0.22), (70, -0.3), (180, -0.55)], 0.62, 1.16)
            self.fill(smooth(hood, 1), shade(self.look.colour, 0.9))
            return
        rim, back = (0.17, -0.12) if hat == "helmet" else (0.22, 0.12)
        top = 0.68 if hat in ("helmet", "beanie") else 0.6
        self.fill(smooth(self.band([(0, rim), (60, rim), (110, back), (180, back)], top, 1.12), 1), colour)
        lit = self.band([(0, rim + 0.12), (180, rim + 0.12)], top - 0.08, 0.7)
        self.fill(moved(lit, 0.12 * self.half * self.light.side, 0), mix(colour, (255, 255, 255), 0.2))
        if hat == "cap" and math.cos(self.yaw) > -0.5:
            peak = moved(self.point(0.0, rim, 1.15), 0.12 * size * math.sin(self.yaw), 0.0)
            high = 0.06 * size + 0.03 * size * max(0.0, math.cos(self.yaw))
            self.fill(ellipse(peak, (0.34 * size, high)), shade(colour, 0.7))
        elif hat == "brim":
            self.fill(ellipse(moved(self.centre, 0, -0.2 * size), (0.74 * size, 0.1 * size)), shade(colour, 0.75))
        elif hat == "beanie":
            self.sheet.line(self.band([(0, rim), (180, rim)], rim, 1.1)[:17], 0.13 * size, shade(colour, 0.75), HEAD)

    def face_box(self) -> tuple[float, float, float, float] | None:
        """From the hairline to the chin and as far round as the face can be seen."""
        if abs(self.yaw) > FACE_SEEN_FROM:
            return None
        left, right = (
            np.sin(np.clip(self.yaw + a, -np.pi / 2, np.pi / 2)) for a in (-FACE_HALF_ANGLE, FACE_HALF_ANGLE)
        )
        x, y = self.centre
        return (x + left * self.half, y - 0.26 * self.size, x + right * self.half, y + 0.5 * self.size)


def _wrapped(angle: NDArray[np.float64] | float) -> NDArray[np.float64] | float:
    return (angle + np.pi) % (2 * np.pi) - np.pi
