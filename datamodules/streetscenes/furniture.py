"""Draws what stands about in a street and is no person: poles, signs, bins, trees, columns, benches."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .canvas import Colour, Sheet, capsule, ellipse, mix, shade, smooth
from .chance import pick, weighted
from .houses import LIT_WINDOW, WALLS
from .looks import CLOTH
from .optics import Light, Stance
from .street import LEAVES


@dataclass
class _Corner:
    """A place to draw at: coordinates are metres right of and above the foot point."""

    sheet: Sheet
    stance: Stance
    light: Light
    rng: np.random.Generator

    def at(self, points: list) -> NDArray[np.float64]:
        return np.asarray(self.stance.origin) + np.asarray(points, float) * (
            self.stance.scale,
            -self.stance.scale,
        )

    def box(self, left: float, low: float, right: float, high: float, colour: Colour) -> None:
        self.sheet.fill(self.at([(left, low), (right, low), (right, high), (left, high)]), colour)

    def round_box(self, left: float, low: float, right: float, high: float, colour: Colour) -> None:
        """A standing cylinder: lit from one side."""
        wide, lit = right - left, self.light.side
        self.box(left, low, right, high, shade(colour, 0.8))
        a, b = (0.3, 0.9) if lit > 0 else (0.1, 0.7)
        self.box(left + a * wide, low, left + b * wide, high, colour)
        c = 0.62 if lit > 0 else 0.26
        self.box(left + c * wide, low, left + (c + 0.14) * wide, high, mix(colour, (255, 255, 255), 0.25))

    def disc(self, x: float, y: float, radius: float, colour: Colour, flat: float = 1.0) -> None:
        self.sheet.fill(
            ellipse(self.at([(x, y)])[0], (radius * self.stance.scale, radius * flat * self.stance.scale)),
            colour,
        )

    def shape(self, points: list, colour: Colour, rounds: int = 0) -> None:
        self.sheet.fill(smooth(self.at(points), rounds) if rounds else self.at(points), colour)

    def pick(self, options: tuple) -> Colour:
        return pick(self.rng, options)


def _lamp(c: _Corner) -> None:
    high, reach, side = c.rng.uniform(4.5, 6.5), c.rng.uniform(0.0, 1.2), c.pick((-1, 1))
    steel = c.pick(((84, 88, 92), (58, 66, 62), (110, 112, 114)))
    c.round_box(-0.07, 0, 0.07, high, steel)
    c.round_box(-0.12, 0, 0.12, 0.7, shade(steel, 0.9))
    c.sheet.line(c.at([(0, high), (side * reach, high + 0.15)]), 0.09 * c.stance.scale, steel)
    glow = LIT_WINDOW if c.light.dusk else (222, 220, 206)
    c.box(side * reach - 0.3, high + 0.02, side * reach + 0.3, high + 0.2, shade(steel, 0.8))
    c.box(side * reach - 0.24, high - 0.04, side * reach + 0.24, high + 0.03, glow)


def _sign(c: _Corner) -> None:
    high = c.rng.uniform(2.1, 2.7)
    c.round_box(-0.045, 0, 0.045, high, (150, 152, 154))
    for i in range(int(c.rng.integers(1, 3))):
        y, kind = high - 0.3 - 0.72 * i, int(c.rng.integers(5))
        if kind == 0:
            c.disc(0, y, 0.36, (196, 36, 40))
            c.disc(0, y, 0.26, (244, 244, 240))
        elif kind == 1:
            c.disc(0, y, 0.36, (36, 82, 160))
            c.shape([(-0.08, y - 0.2), (0.08, y - 0.2), (0.08, y + 0.22), (-0.08, y + 0.22)], (244, 244, 240))
        elif kind == 2:
            c.shape([(-0.4, y - 0.28), (0.4, y - 0.28), (0, y + 0.4)], (196, 36, 40))
            c.shape([(-0.25, y - 0.19), (0.25, y - 0.19), (0, y + 0.24)], (244, 244, 240))
        elif kind == 3:
            c.box(-0.34, y - 0.34, 0.34, y + 0.34, (36, 82, 160))
            c.box(-0.2, y - 0.2, 0.2, y + 0.2, (244, 244, 240))
        else:
            c.shape([(0, y - 0.4), (0.4, y), (0, y + 0.4), (-0.4, y)], (244, 244, 240))
            c.shape([(0, y - 0.3), (0.3, y), (0, y + 0.3), (-0.3, y)], (240, 190, 50))


def _traffic_light(c: _Corner) -> None:
    c.round_box(-0.06, 0, 0.06, 3.0, (92, 94, 96))
    c.box(-0.2, 2.2, 0.2, 3.15, (30, 32, 34))
    on = int(c.rng.integers(3))
    for i, colour in enumerate(((232, 50, 40), (246, 186, 48), (64, 200, 110))):
        c.disc(0, 2.98 - 0.3 * i, 0.12, colour if i == on else shade(colour, 0.25))


def _hydrant(c: _Corner) -> None:
    paint = c.pick(((190, 44, 40), (222, 170, 44), (60, 90, 150)))
    c.round_box(-0.16, 0, 0.16, 0.7, paint)
    c.disc(0, 0.72, 0.18, paint)
    c.box(-0.28, 0.42, 0.28, 0.56, shade(paint, 0.85))
    c.box(-0.2, 0.0, 0.2, 0.08, shade(paint, 0.7))


def _bin(c: _Corner) -> None:
    paint = c.pick(((58, 92, 66), (84, 88, 92), (214, 122, 48), (44, 66, 104), (126, 126, 126)))
    high = c.rng.uniform(0.9, 1.3)
    c.round_box(-0.3, 0.0, 0.3, high, paint)
    c.shape(
        [(-0.34, high - 0.05), (0.34, high - 0.05), (0.26, high + 0.12), (-0.26, high + 0.12)],
        shade(paint, 0.7),
    )
    c.box(-0.18, high - 0.3, 0.18, high - 0.16, (30, 30, 32))


def _wheelie_bins(c: _Corner) -> None:
    for i in range(int(c.rng.integers(1, 4))):
        paint, x = c.pick(((66, 70, 72), (70, 110, 70), (60, 84, 130), (206, 168, 50))), 0.62 * i - 0.6
        c.shape([(x - 0.24, 0.08), (x + 0.24, 0.08), (x + 0.3, 1.0), (x - 0.3, 1.0)], paint)
        c.shape([(x - 0.32, 1.0), (x + 0.32, 1.0), (x + 0.28, 1.12), (x - 0.28, 1.12)], shade(paint, 0.75))
        c.disc(x + 0.2, 0.1, 0.1, (30, 30, 30))


def _meter(c: _Corner) -> None:
    c.round_box(-0.05, 0, 0.05, 1.1, (120, 122, 124))
    paint = c.pick(((70, 74, 80), (44, 66, 112), (150, 150, 148)))
    c.shape([(-0.17, 1.05), (0.17, 1.05), (0.19, 1.45), (0.0, 1.62), (-0.19, 1.45)], paint, 1)
    c.box(-0.1, 1.32, 0.1, 1.46, (196, 206, 190))


def _ticket_machine(c: _Corner) -> None:
    paint = c.pick(((126, 128, 128), (60, 92, 136), (206, 170, 60), (86, 88, 92)))
    c.round_box(-0.26, 0, 0.26, 1.65, paint)
    c.box(-0.17, 1.15, 0.17, 1.42, (150, 190, 196))
    c.box(-0.15, 0.85, 0.15, 1.05, (40, 42, 46))
    c.box(-0.28, 1.62, 0.28, 1.72, shade(paint, 0.7))


def _cabinet(c: _Corner) -> None:
    paint, half, high = (
        c.pick(((128, 128, 128), (142, 144, 140), (108, 112, 108), (176, 174, 166))),
        c.rng.uniform(0.3, 0.6),
        c.rng.uniform(1.0, 1.75),
    )
    c.round_box(-half, 0, half, high, paint)
    c.box(-0.02, 0.1, 0.02, high - 0.1, shade(paint, 0.65))
    c.box(-half - 0.03, high - 0.08, half + 0.03, high, shade(paint, 0.75))
    if c.rng.random() < 0.5:
        c.box(-half * 0.8, 0.5, -half * 0.2, 0.9, c.pick(CLOTH))


def _pillar(c: _Corner) -> None:
    stone, high = c.pick(((128, 128, 126), (150, 146, 138), (112, 110, 108))), c.rng.uniform(1.1, 2.0)
    c.round_box(-0.2, 0.15, 0.2, high, stone)
    c.box(-0.26, 0, 0.26, 0.18, shade(stone, 0.8))
    c.disc(0, high + 0.16, 0.2, stone)
    c.disc(0.06 * np.sign(c.light.side), high + 0.2, 0.11, mix(stone, (255, 255, 255), 0.2))


def _bollards(c: _Corner) -> None:
    paint = c.pick(((60, 62, 66), (128, 128, 128), (170, 40, 40), (220, 220, 216)))
    c.round_box(-0.09, 0, 0.09, 0.85, paint)
    c.box(-0.09, 0.62, 0.09, 0.72, (236, 236, 232))
    c.disc(0, 0.86, 0.1, paint)


def _column(c: _Corner) -> None:
    """An advertising column with posters of plain shapes."""
    c.round_box(-0.6, 0.0, 0.6, 2.9, (196, 190, 176))
    for x, y in ((-0.55, 1.5), (-0.02, 1.5), (-0.55, 0.4), (-0.02, 0.4)):
        ground, ink = c.pick(CLOTH), c.pick(CLOTH)
        c.box(x, y, x + 0.48, y + 0.95, ground)
        if c.rng.random() < 0.5:
            c.disc(x + 0.24, y + 0.6, 0.15, ink)
        else:
            c.box(x + 0.08, y + 0.4, x + 0.4, y + 0.8, ink)
        c.box(x + 0.06, y + 0.1, x + 0.42, y + 0.2, ink)
    c.shape([(-0.7, 2.9), (0.7, 2.9), (0.4, 3.2), (0.0, 3.5), (-0.4, 3.2)], (72, 96, 84), 1)


def _parasol(c: _Corner) -> None:
    """A closed parasol under its cover: about as tall and wide as a person."""
    cloth = c.pick((*CLOTH, (128, 128, 128), (206, 196, 170), (150, 150, 150)))
    c.box(-0.3, 0, 0.3, 0.12, (110, 108, 104))
    c.box(-0.03, 0, 0.03, 0.6, (150, 150, 150))
    c.shape(
        [(-0.2, 0.55), (0.2, 0.55), (0.17, 1.4), (0.07, 2.1), (0, 2.25), (-0.07, 2.1), (-0.17, 1.4)],
        shade(cloth, 0.8),
        1,
    )
    lit = 0.05 * np.sign(c.light.side)
    c.shape([(lit - 0.09, 0.6), (lit + 0.1, 0.6), (lit + 0.08, 1.4), (lit, 2.0), (lit - 0.06, 1.4)], cloth, 1)
    c.box(-0.19, 1.0, 0.19, 1.07, shade(cloth, 0.55))


def _mailbox(c: _Corner) -> None:
    paint = c.pick(((236, 190, 40), (190, 44, 44), (44, 84, 150)))
    c.box(-0.05, 0, 0.05, 0.8, (96, 96, 98))
    c.round_box(-0.28, 0.7, 0.28, 1.45, paint)
    c.box(-0.2, 1.22, 0.2, 1.28, (30, 30, 32))
    c.box(-0.2, 0.9, 0.2, 1.08, (240, 238, 230))


def _cone(c: _Corner) -> None:
    c.box(-0.22, 0, 0.22, 0.06, (200, 84, 30))
    c.shape([(-0.16, 0.05), (0.16, 0.05), (0.03, 0.72), (-0.03, 0.72)], (236, 104, 40))
    c.shape([(-0.11, 0.25), (0.11, 0.25), (0.08, 0.42), (-0.08, 0.42)], (244, 244, 240))


def _board(c: _Corner) -> None:
    paint = c.pick(WALLS)
    c.shape([(-0.34, 0), (0.34, 0), (0.28, 1.05), (-0.28, 1.05)], shade(paint, 0.5))
    c.shape([(-0.26, 0.12), (0.26, 0.12), (0.22, 0.96), (-0.22, 0.96)], (44, 48, 46))
    for i in range(4):
        c.box(-0.16, 0.78 - 0.15 * i, 0.16, 0.83 - 0.15 * i, (226, 224, 214))


def _tree(c: _Corner) -> None:
    leaf, high, wide = c.pick(LEAVES), c.rng.uniform(3.6, 6.5), c.rng.uniform(1.1, 1.9)
    bark = c.pick(((88, 68, 52), (104, 92, 80), (74, 60, 50)))
    trunk = c.at([(0, 0), (0, high * 0.7)])
    c.sheet.fill(capsule(trunk[0], trunk[1], 0.16 * c.stance.scale, 0.1 * c.stance.scale), bark)
    c.box(-0.17, 0, -0.04 if c.light.side > 0 else 0.17, 1.0, shade(bark, 0.8))
    _crown(c, high, wide, leaf, 9)


def _crown(c: _Corner, high: float, wide: float, leaf: Colour, blobs: int) -> None:
    around = c.rng.uniform(-1, 1, (blobs, 2))
    for tone, shift, size in ((0.72, 0.0, 0.62), (1.0, 0.12, 0.5), (1.22, 0.26, 0.27)):
        for x, y in around:
            centre_x = x * wide * 0.62 + shift * wide * 0.5 * np.sign(c.light.side)
            c.disc(centre_x, high + (y * 0.55 + shift * 0.6) * wide, wide * size, shade(leaf, tone))


def _topiary(c: _Corner) -> None:
    """A clipped shrub in a pot, about a person's size."""
    leaf, pot = c.pick(LEAVES), c.pick(((150, 84, 60), (128, 128, 126), (70, 72, 76)))
    c.shape([(-0.22, 0), (0.22, 0), (0.3, 0.5), (-0.3, 0.5)], pot)
    c.box(-0.33, 0.44, 0.33, 0.53, shade(pot, 0.8))
    if c.rng.random() < 0.5:
        c.shape([(-0.3, 0.5), (0.3, 0.5), (0.2, 1.2), (0.0, 1.8), (-0.2, 1.2)], shade(leaf, 0.8), 1)
        c.shape([(-0.1, 0.55), (0.2, 0.55), (0.12, 1.2), (0.03, 1.6), (-0.05, 1.2)], leaf, 1)
    else:
        c.box(-0.04, 0.5, 0.04, 1.1, (90, 70, 52))
        for y, r in ((0.8, 0.3), (1.4, 0.36)):
            c.disc(0, y, r, shade(leaf, 0.8))
            c.disc(0.08 * np.sign(c.light.side), y + 0.08, r * 0.6, leaf)


def _bush(c: _Corner) -> None:
    _crown(c, 0.55, c.rng.uniform(0.5, 0.8), c.pick(LEAVES), 6)
    c.box(-0.5, 0.0, 0.5, 0.3, (88, 74, 58))


def draw_bench(sheet: Sheet, stance: Stance, light: Light, rng: np.random.Generator) -> None:
    """A bench seen from where its sitters look to."""
    c = _Corner(sheet, stance, light, rng)
    wood = c.pick(((142, 98, 58), (112, 78, 52), (96, 112, 88)))
    for x in (-0.7, 0.62):
        c.box(x, 0, x + 0.08, 0.85, (52, 54, 56))
    for y in (0.42, 0.6, 0.74):
        c.box(-0.8, y, 0.8, y + 0.1, wood)
    c.box(-0.82, 0.36, 0.82, 0.46, mix(wood, (255, 255, 255), 0.15))


@dataclass(frozen=True)
class Furniture:
    """A kind of street furniture.

    Attributes:
        label: its Cityscapes label.
        half_width: metres it keeps free to each side.
        height: metres, for its shadow.
        weight: how often it stands about.
        draw: draws it.
    """

    label: str
    half_width: float
    height: float
    weight: float
    draw: Callable[[_Corner], None]


FURNITURE = (
    Furniture("pole", 0.2, 5.0, 3, _lamp),
    Furniture("traffic sign", 0.3, 2.4, 3, _sign),
    Furniture("traffic light", 0.25, 3.0, 1.5, _traffic_light),
    Furniture("static", 0.3, 0.8, 1, _hydrant),
    Furniture("dynamic", 0.35, 1.1, 1.5, _bin),
    Furniture("dynamic", 0.9, 1.1, 1, _wheelie_bins),
    Furniture("static", 0.2, 1.5, 1, _meter),
    Furniture("static", 0.3, 1.7, 1, _ticket_machine),
    Furniture("static", 0.6, 1.5, 1.5, _cabinet),
    Furniture("static", 0.3, 1.7, 1.2, _pillar),
    Furniture("pole", 0.15, 0.9, 1.5, _bollards),
    Furniture("static", 0.7, 3.2, 1, _column),
    Furniture("dynamic", 0.3, 2.2, 1.5, _parasol),
    Furniture("static", 0.3, 1.4, 1, _mailbox),
    Furniture("dynamic", 0.25, 0.7, 0.7, _cone),
    Furniture("dynamic", 0.35, 1.0, 1, _board),
    Furniture("vegetation", 0.5, 5.0, 3, _tree),
    Furniture("vegetation", 0.35, 1.6, 1.5, _topiary),
    Furniture("vegetation", 0.6, 0.8, 1, _bush),
)


def random_furniture(rng: np.random.Generator) -> Furniture:
    """One kind, by its weight."""
    return weighted(rng, {item: item.weight for item in FURNITURE})


def draw_furniture(item: Furniture, sheet: Sheet, stance: Stance, light: Light, rng: np.random.Generator) -> None:
    """Draw one piece."""
    item.draw(_Corner(sheet, stance, light, rng))
