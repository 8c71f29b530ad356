"""Draws house fronts as flat textures: walls, windows, doors, shops."""

import cv2
import numpy as np
from numpy.typing import NDArray

from .canvas import Colour, lettering, mix, shade
from .chance import pick
from .optics import Light

WALLS = (
    (214, 196, 162), (188, 142, 108), (158, 82, 62), (226, 218, 200), (168, 176, 180), (142, 152, 138), (204, 166, 120),
    (120, 112, 108), (196, 182, 190), (110, 128, 144), (178, 104, 76), (232, 206, 150), (134, 132, 130), (96, 82, 76),
)  # fmt: skip
ROOFS = ((112, 62, 48), (74, 76, 84), (92, 80, 70), (60, 60, 66))
SHOPS = ("BAECKER", "CAFE", "APOTHEKE", "BUCH", "OPTIK", "KIOSK", "BLUMEN", "PIZZA", "MODE", "BANK", "HOTEL", "EIS")
FLOOR = 3.1  # metres from floor to floor
PANES = 4  # different windows of one house
LIT_WINDOW = (255, 214, 130)

Texture = NDArray[np.uint8]


def house_front(rng: np.random.Generator, width: float, floors: int, scale: float, light: Light) -> Texture:
    """A front of ``width`` metres and ``floors`` storeys at ``scale`` pixels per metre, (h, w, 3).

    The random numbers drawn do not depend on ``scale``.
    """
    front = _Front(rng, width, floors, scale, light)
    front.wall()
    for floor in range(floors):
        if floor == 0:
            front.ground_floor()
        else:
            front.storey(floor)
    front.cornice()
    return front.pixels


class _Boxes:
    """A flat texture made of boxes; coordinates are metres from its lower left corner."""

    def __init__(self, width: float, height: float, scale: float, colour: Colour) -> None:
        self.scale = scale
        self.pixels = np.empty((max(1, round(height * scale)), max(1, round(width * scale)), 3), np.uint8)
        self.box(0, 0, width, height, colour)

    def box(self, left: float, low: float, right: float, high: float, colour: Colour) -> None:
        """Fill a box that is at least one pixel high and wide where it lies inside."""
        rows = self.pixels.shape[0]
        y0, y1 = rows - round(high * self.scale), rows - round(low * self.scale)
        x0, x1 = round(left * self.scale), round(right * self.scale)
        cv2.rectangle(self.pixels, (x0, y0), (max(x0, x1 - 1), max(y0, y1 - 1)), colour, cv2.FILLED)

    def paste(self, left: float, low: float, tile: Texture) -> None:
        """Set a smaller texture in, its lower left corner at a place; left out where it does not fit."""
        rows, columns = self.pixels.shape[:2]
        high, wide = tile.shape[:2]
        y, x = rows - round(low * self.scale) - high, round(left * self.scale)
        if y >= 0 and 0 <= x <= columns - wide:
            self.pixels[y : y + high, x : x + wide] = tile


class _Front(_Boxes):
    """One house front."""

    def __init__(self, rng: np.random.Generator, width: float, floors: int, scale: float, light: Light) -> None:
        self.rng, self.width, self.light = rng, width, light
        self.height = floors * FLOOR + 0.5
        self.colour: Colour = pick(rng, WALLS)
        super().__init__(width, self.height, scale, self.colour)
        self.trim = mix(self.colour, (250, 248, 240), float(rng.uniform(0.3, 0.8)))
        self.columns = max(1, int(width / rng.uniform(1.9, 3.0)))
        self.window = (float(rng.uniform(0.5, 0.68)), float(rng.uniform(1.3, 1.9)))  # share of a bay, metres
        self.style = int(rng.integers(5))
        wide = self.window[0] * width / self.columns
        self.panes = [self.pane(wide, self.window[1]) for _ in range(PANES)]

    def wall(self) -> None:
        """Plaster, courses of brick, or panels."""
        grain = np.array(self.colour) + self.rng.integers(-8, 9, (24, 16, 1))
        rows, columns = self.pixels.shape[:2]
        plaster = np.clip(grain, 0, 255).astype(np.uint8)
        self.pixels[:] = cv2.resize(plaster, (columns, rows), interpolation=cv2.INTER_LINEAR)
        if self.style in (0, 1):
            step = 0.3 if self.style == 0 else 0.62
            for i in range(int(self.height / step)):
                self.box(0, i * step, self.width, i * step + 0.05, shade(self.colour, 0.87))
        if self.style == 2:
            for floor in range(1, int(self.height / FLOOR) + 1):
                self.box(0, floor * FLOOR - 0.18, self.width, floor * FLOOR, self.trim)

    def pane(self, width: float, height: float) -> Texture:
        """A window with frame, sill and bars that reflects the sky, or with the lamp on at dusk."""
        lit = self.rng.random() < (0.5 if self.light.dusk else 0.0)
        reflecting = mix((70, 84, 98), self.light.sky[1], float(self.rng.uniform(0, 0.35)))
        glass = LIT_WINDOW if lit else shade(reflecting, 0.85)
        tile = _Boxes(width + 0.28, height + 0.32, self.scale, shade(self.trim, 0.82))
        tile.box(0.04, 0.1, width + 0.24, height + 0.32, self.trim)
        left, low, right, high = 0.14, 0.22, 0.14 + width, 0.22 + height
        tile.box(left, low, right, high, glass)
        if not lit:
            tile.box(left, low + 0.55 * height, right, high, mix(glass, self.light.sky[1], 0.22))
        if self.rng.random() < 0.3:
            curtain = mix(glass, (240, 236, 224), 0.6)
            tile.box(left, low, left + 0.25 * width, high, curtain)
            tile.box(right - 0.25 * width, low, right, high, curtain)
        tile.box(0.1 + 0.5 * width, low, 0.18 + 0.5 * width, high, self.trim)
        return tile.pixels

    def storey(self, floor: int) -> None:
        """A row of windows, some with balconies."""
        bay = self.width / self.columns
        share, tall = self.window
        balcony = self.rng.random() < 0.2
        for i in range(self.columns):
            left, right = (i + 0.5 - share / 2) * bay, (i + 0.5 + share / 2) * bay
            low = floor * FLOOR + 0.75
            self.paste(left - 0.14, low - 0.22, pick(self.rng, self.panes))
            if self.style == 3:
                for x in (left - 0.4, right + 0.12):
                    self.box(x, low, x + 0.28, low + tall, shade(self.colour, 0.55))
            if balcony and i % 2 == 0:
                self.balcony(left - 0.3, right + 0.3, low)

    def balcony(self, left: float, right: float, low: float) -> None:
        self.box(left, low - 0.75, right, low - 0.6, shade(self.colour, 0.6))
        self.box(left, low + 0.22, right, low + 0.3, (60, 60, 64))
        for bar in np.arange(left, right, 0.3):
            self.box(bar, low - 0.6, bar + 0.06, low + 0.22, (70, 70, 74))

    def ground_floor(self) -> None:
        if self.rng.random() < 0.5:
            self.shop()
            return
        bay = self.width / self.columns
        door = int(self.rng.integers(self.columns))
        self.box(0, 0, self.width, 0.5, shade(self.colour, 0.7))
        pane = self.pane(0.56 * bay, 1.5)
        for i in range(self.columns):
            if i == door:
                self.door((i + 0.5) * bay - 0.55)
            else:
                self.paste((i + 0.22) * bay - 0.14, 0.75, pane)

    def door(self, left: float) -> None:
        paint = pick(self.rng, WALLS)
        self.box(left - 0.12, 0, left + 1.22, 2.4, self.trim)
        self.box(left, 0, left + 1.1, 2.25, shade(paint, 0.6))
        self.box(left + 0.2, 1.2, left + 0.9, 1.95, (70, 84, 96))
        self.box(left + 0.15, 0.25, left + 0.95, 1.0, shade(paint, 0.5))

    def shop(self) -> None:
        """Shop windows with goods, a lettered board and often a striped awning."""
        board = pick(self.rng, WALLS)
        glass = (246, 214, 150) if self.light.dusk else (92, 106, 116)
        self.box(0, 0, self.width, 2.9, shade(board, 0.72))
        self.box(0.3, 0.5, self.width - 1.8, 2.2, glass)
        for x in np.arange(0.5, self.width - 2.2, 0.7):
            goods = pick(self.rng, WALLS)
            self.box(x, 0.55, x + 0.4, 0.6 + float(self.rng.uniform(0.3, 0.9)), goods)
        self.box(self.width - 1.5, 0, self.width - 0.4, 2.3, shade(glass, 0.8))
        self.box(0.1, 2.3, self.width - 0.1, 2.9, shade(board, 0.5))
        text = pick(self.rng, SHOPS)
        if self.rng.random() < 0.5:
            self.awning()
        else:
            self.sign(text, board)

    def sign(self, text: str, board: Colour) -> None:
        high, wide = round(0.5 * self.scale), round(min(0.38 * len(text), self.width - 0.6) * self.scale)
        if high >= 2 and wide >= 4:
            sign = lettering(text, (250, 244, 226), shade(board, 0.5))
            self.paste(0.3, 2.35, cv2.resize(sign, (wide, high), interpolation=cv2.INTER_AREA))

    def awning(self) -> None:
        colour = pick(self.rng, WALLS)
        for i, x in enumerate(np.arange(0.2, self.width - 0.4, 0.5)):
            self.box(x, 2.0, x + 0.5, 2.85, (240, 236, 226) if i % 2 else shade(colour, 0.8))
        self.box(0.2, 1.94, self.width - 0.2, 2.02, shade(colour, 0.5))

    def cornice(self) -> None:
        self.box(0, self.height - 0.45, self.width, self.height, self.trim)
        self.box(0, self.height - 0.6, self.width, self.height - 0.45, shade(self.colour, 0.7))
