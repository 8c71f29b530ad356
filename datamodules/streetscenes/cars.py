"""Draws cars."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .canvas import Colour, Sheet, mix, patch, shade
from .chance import pick, weighted
from .chassis import BUMPER, HEADLIGHT, INSIDE, PAINT, TAIL_LIGHT, Body, Chassis, end_quad

WEIGHTS = {"hatch": 0.28, "saloon": 0.25, "estate": 0.18, "suv": 0.17, "van": 0.12}
STRIPED, TAXI, OCCUPIED = 0.12, 0.06, 0.5  # shares of the cars


@dataclass(frozen=True)
class _Shape:
    """Lengths of a model in metres; ``half`` is half its width, ``slope`` how far the rear window leans."""

    length: float
    half: float
    belt: float
    roof: float
    bonnet: float
    boot: float
    slope: float
    sill: float = 0.22
    wheel: float = 0.33

    @property
    def axles(self) -> tuple[float, float]:
        """Where the wheels are."""
        return -0.3 * self.length, 0.31 * self.length


SHAPES = {
    "hatch": _Shape(3.9, 0.86, 0.92, 1.46, 0.95, 0.05, 0.42),
    "saloon": _Shape(4.6, 0.9, 0.9, 1.42, 1.2, 0.85, 0.6),
    "estate": _Shape(4.7, 0.9, 0.92, 1.47, 1.15, 0.05, 0.3),
    "suv": _Shape(4.5, 0.95, 1.06, 1.7, 1.05, 0.06, 0.25, sill=0.3, wheel=0.38),
    "van": _Shape(4.9, 0.97, 1.15, 1.95, 0.65, 0.02, 0.1),
}


def draw_car(sheet: Sheet, at: Chassis, rng: np.random.Generator) -> None:
    """A hatchback, saloon, estate, off-roader or van."""
    body, colour, shape = Body(sheet, at), pick(rng, PAINT), SHAPES[weighted(rng, WEIGHTS)]
    front, half = shape.length / 2, shape.half
    town, letters = pick(rng, ("B", "HH", "K", "OS", "M")), pick(rng, ("AN", "XY", "TO", "K"))
    plate = f"{town} {letters} {int(rng.integers(100, 999))}"
    striped, taxi, occupied = rng.random() < STRIPED, rng.random() < TAXI, rng.random() < OCCUPIED
    body.underside(0.15 - front, front - 0.15, half - 0.1, 0.12, 0.6)
    for axle in shape.axles:
        body.wheels(axle, half - 0.02, shape.wheel)
    _shell(body, shape, colour)
    for axle in shape.axles:
        body.near_wheel(axle, half, shape.wheel)
    _cabin(body, shape, mix(colour, (250, 250, 250), 0.04), occupied)
    _ends(body, shape, plate)
    _sides(body, shape, colour, striped)
    if taxi:
        sign = end_quad(-1 if np.cos(at.yaw) > 0 else 1, 0.0, 0.3, shape.roof, shape.roof + 0.16)
        body.write(sign, "TAXI", (20, 20, 20), (250, 220, 90))


def _shell(body: Body, shape: _Shape, colour: Colour) -> None:
    """Everything below the windows."""
    front, rear, belt, half = shape.length / 2, -shape.length / 2, shape.belt, shape.half
    profile = [
        (rear, shape.sill),
        (rear - 0.04, 0.6),
        (rear + 0.02, belt),
        (front - shape.bonnet, belt + 0.02),
        (front - 0.12, belt - 0.14),
        (front, 0.62),
        (front - 0.02, shape.sill),
    ]
    inset = np.array([0.06, 0.0, 0.03, 0.03, 0.05, 0.02, 0.06])
    body.prism(profile, half - inset, colour)


def _cabin(body: Body, shape: _Shape, colour: Colour, occupied: bool) -> None:
    """Roof and windows."""
    front, rear = shape.length / 2 - shape.bonnet, shape.boot - shape.length / 2
    profile = np.array(
        [(rear, shape.belt - 0.02), (rear + shape.slope, shape.roof), (front - 0.62, shape.roof), (front, shape.belt)]
    )
    half = shape.half - np.array([0.05, 0.19, 0.19, 0.05])
    body.prism(profile, half, colour)
    left = np.column_stack([profile[:, 0], -half, profile[:, 1]])
    right = np.column_stack([profile[:, 0], half, profile[:, 1]])
    for end in ([left[1], right[1], right[0], left[0]], [right[2], left[2], left[3], right[3]]):
        _windows(body, np.array(end), [(0.07, 0.93)], False)
    for flank in ([right[1], right[2], right[3], right[0]], [left[2], left[1], left[0], left[3]]):
        _windows(body, np.array(flank), [(0.05, 0.48), (0.53, 0.95)], occupied)


def _windows(body: Body, quad: NDArray[np.float64], spans: list[tuple[float, float]], occupied: bool) -> None:
    if body.at.seen(quad) is None:
        return
    for left, right in spans:
        pane = patch(quad, left, 0.12, right, 0.94)
        body.glass(pane)
        if occupied:
            body.fill(patch(pane, 0.35, 0.45, 0.6, 1.0), INSIDE)


def _ends(body: Body, shape: _Shape, plate: str) -> None:
    """Lamps, grille, bumper and number plate."""
    for end, along, lamp in ((1, shape.length / 2, HEADLIGHT), (-1, -shape.length / 2 - 0.03, TAIL_LIGHT)):
        quad = end_quad(end, along, shape.half - 0.04, shape.sill, shape.belt - 0.1)
        if body.at.seen(quad) is None:
            continue
        body.lamps(quad, 0.02, 0.2, 0.18, 0.42, lamp)
        body.fill(patch(quad, 0.05, 0.78, 0.95, 1.0), BUMPER)
        if end > 0:
            body.fill(patch(quad, 0.27, 0.2, 0.73, 0.46), (36, 36, 40))
        body.plate(patch(quad, 0.33, 0.5, 0.67, 0.68), plate)


def _sides(body: Body, shape: _Shape, colour: Colour, striped: bool) -> None:
    """Doors, stripe and mirror."""
    front, half = shape.length / 2, shape.half
    for side, flank in body.flanks(-front, front, half, shape.sill, shape.belt):
        for door in (0.34, 0.56):
            share = door if side > 0 else 1 - door
            body.line(patch(flank, share, 0.04, share, 0.92)[[0, 3]], 0.012, shade(colour, 0.6))
        if striped:
            body.fill(patch(flank, 0.05, 0.42, 0.95, 0.52), (240, 240, 240))
        mirror = np.array([front - shape.bonnet - 0.25, side * (half + 0.1), shape.belt + 0.08])
        corners = np.array([[-0.07, 0, -0.06], [0.07, 0, -0.06], [0.07, 0, 0.07], [-0.07, -0.1 * side, 0.07]])
        body.sheet.hull(body.at(mirror + corners), shade(colour, 0.7))
