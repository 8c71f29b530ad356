"""Draws bicycles and motorcycles, and says how a rider sits on them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .canvas import Colour, Sheet, mix, shade
from .chance import pick
from .chassis import HEADLIGHT, PAINT, TAIL_LIGHT, TYRE
from .optics import Stance
from .poses import Body, Pose, riding

_TURN = np.linspace(0, 2 * np.pi, 22, endpoint=False)
_RING = np.stack([np.cos(_TURN), np.zeros(22), np.sin(_TURN)], axis=1)
STEEL = (150, 154, 160)


@dataclass(frozen=True)
class Cycle:
    """A two-wheeler; lengths in metres along the forward axis and up.

    Attributes:
        kind: ``bicycle`` or ``motorcycle``.
        style: ``city``, ``race``, ``scooter`` or ``naked``.
        colour: its paint.
        crank: turn of the pedals in radians.
        basket: has a basket or top case.
    """

    kind: str
    style: str
    colour: Colour
    crank: float
    basket: bool


def random_cycle(rng: np.random.Generator, kind: str) -> Cycle:
    """A bicycle or a motorcycle."""
    style = pick(rng, ("city", "race") if kind == "bicycle" else ("scooter", "naked"))
    return Cycle(kind, style, pick(rng, PAINT), float(rng.uniform(0, 2 * np.pi)), rng.random() < 0.5)


def rider_pose(cycle: Cycle, body: Body, look: float) -> Pose:
    """How ``body`` sits on ``cycle``."""
    if cycle.kind == "bicycle":
        reach = 0.17
        feet = tuple(
            (0.02 + reach * np.cos(t), 0.1, 0.4 + reach * np.sin(t)) for t in (cycle.crank, cycle.crank + np.pi)
        )
        lean = 0.35 if cycle.style == "city" else 0.75
        grips = (0.4, 0.26, 1.02) if cycle.style == "city" else (0.48, 0.2, 0.94)
        return riding(body, (-0.2, 0.0, 0.5 * body.height), grips, feet, lean, look)
    foot = (0.28, 0.14, 0.36) if cycle.style == "scooter" else (0.02, 0.2, 0.36)
    grips = (0.42, 0.3, 1.02) if cycle.style == "scooter" else (0.46, 0.32, 1.02)
    return riding(body, (-0.22, 0.0, 0.86), grips, (foot, foot), 0.16 if cycle.style == "scooter" else 0.4, look)


def draw_cycle(sheet: Sheet, stance: Stance, cycle: Cycle) -> None:
    """Draw the machine without its rider."""
    if cycle.kind == "bicycle":
        _bicycle(sheet, stance, cycle)
    else:
        _motorcycle(sheet, stance, cycle)


def _tube(sheet: Sheet, stance: Stance, points: list, width: float, colour: Colour) -> None:
    sheet.line(stance(points), width * stance.scale, colour)


def _bicycle(sheet: Sheet, stance: Stance, cycle: Cycle) -> None:
    radius, back, front = 0.34, (-0.52, 0.0, 0.34), (0.54, 0.0, 0.34)
    bottom, seat, head = (0.02, 0.0, 0.4), (-0.16, 0.0, 0.84), (0.36, 0.0, 0.86)
    paint = cycle.colour
    for hub in (back, front):
        tyre = stance(np.array(hub) + _RING * radius)
        for spoke in range(0, 11, 2):
            sheet.line(tyre[[spoke, spoke + 11]], 0.012 * stance.scale, (150, 150, 150))
        sheet.line(tyre, 0.055 * stance.scale, TYRE, closed=True)
    if cycle.style == "city":
        for hub in (back, front):
            arc = np.array(hub) + _RING[2:10] * (radius + 0.05)
            _tube(sheet, stance, list(arc), 0.05, shade(paint, 0.8))
        _tube(sheet, stance, [(-0.66, 0, 0.74), (-0.26, 0, 0.74)], 0.04, (60, 60, 60))
        _tube(sheet, stance, [head, (0.1, 0, 0.5), seat], 0.055, paint)
    else:
        _tube(sheet, stance, [head, seat], 0.05, paint)
    _tube(sheet, stance, [back, bottom, seat, back], 0.045, paint)
    _tube(sheet, stance, [bottom, head, front], 0.05, paint)
    saddle_top = (-0.2, 0.0, 0.93)
    _tube(sheet, stance, [seat, saddle_top], 0.035, STEEL)
    _tube(sheet, stance, [(-0.32, 0, 0.95), (-0.06, 0, 0.94)], 0.07, (36, 32, 30))
    top = (0.33, 0.0, 1.0)
    _tube(sheet, stance, [head, top], 0.04, STEEL)
    grip = (0.36, 0.27, 1.02) if cycle.style == "city" else (0.48, 0.2, 0.95)
    _tube(sheet, stance, [grip, top, (grip[0], -grip[1], grip[2])], 0.045, (44, 44, 46))
    pedals = [
        (0.02 + 0.17 * np.cos(t), side * 0.1, 0.4 + 0.17 * np.sin(t) - 0.06)
        for t, side in ((cycle.crank, 1), (cycle.crank + np.pi, -1))
    ]
    _tube(sheet, stance, [pedals[0], bottom, pedals[1]], 0.035, STEEL)
    if cycle.basket:
        corners = [(f, side, u) for f in (0.44, 0.74) for side in (-0.17, 0.17) for u in (0.8, 1.02)]
        sheet.hull(stance(corners), (150, 112, 66))
        _tube(sheet, stance, [(0.44, 0.17, 1.02), (0.74, 0.17, 1.02)], 0.03, (110, 80, 46))
    lamp = stance([(0.62 if cycle.basket else 0.42, 0, 0.86)])[0]
    sheet.fill(lamp + _disc(0.05 * stance.scale), HEADLIGHT if np.cos(stance.yaw) > 0 else (90, 90, 94))


def _disc(radius: float) -> NDArray[np.float64]:
    return _RING[:, [0, 2]] * radius


def _wheel(sheet: Sheet, stance: Stance, hub: tuple[float, float, float], radius: float, width: float) -> None:
    both = np.concatenate([np.array(hub) + _RING * radius + (0, side * width / 2, 0) for side in (-1, 1)])
    sheet.hull(stance(both), TYRE)
    near = (0, -np.sign(np.sin(stance.yaw)) * width / 2, 0)
    for share, colour in ((0.68, (120, 122, 126)), (0.56, (58, 58, 62)), (0.2, STEEL)):
        sheet.fill(stance(np.array(hub) + _RING * radius * share + near), colour)


def _block(stance: Stance, profile: list, half: float) -> NDArray[np.float64]:
    return stance([(f, side * half, u) for f, u in profile for side in (-1, 1)])


def _motorcycle(sheet: Sheet, stance: Stance, cycle: Cycle) -> None:
    scooter = cycle.style == "scooter"
    radius = 0.25 if scooter else 0.31
    back, front = (-0.62, 0.0, radius), (0.68, 0.0, radius)
    paint, dark = cycle.colour, shade(cycle.colour, 0.72)
    if np.cos(stance.yaw) > 0:
        _motorcycle_tail(sheet, stance, cycle, back, radius)
    else:
        _motorcycle_nose(sheet, stance, cycle, front, radius)
    if scooter:
        sheet.hull(
            _block(stance, [(-0.75, 0.5), (-0.7, 0.75), (-0.05, 0.78), (0.05, 0.28), (-0.5, 0.3)], 0.19),
            paint,
        )
        sheet.hull(_block(stance, [(-0.1, 0.2), (0.4, 0.2), (0.4, 0.3), (-0.1, 0.3)], 0.18), dark)
    else:
        sheet.hull(_block(stance, [(-0.25, 0.25), (0.3, 0.25), (0.34, 0.6), (-0.25, 0.6)], 0.17), (66, 66, 70))
        sheet.hull(_block(stance, [(-0.15, 0.32), (0.2, 0.32), (0.2, 0.5), (-0.15, 0.5)], 0.2), STEEL)
        _tube(sheet, stance, [(0.2, -0.2, 0.3), (-0.75, -0.22, 0.36)], 0.1, (170, 172, 176))
        sheet.hull(
            _block(stance, [(-0.15, 0.66), (0.3, 0.62), (0.34, 0.86), (0.1, 0.96), (-0.15, 0.82)], 0.15),
            paint,
        )
        sheet.hull(
            _block(stance, [(-0.1, 0.84), (0.2, 0.88), (0.12, 0.92), (-0.1, 0.86)], 0.1),
            mix(paint, (255, 255, 255), 0.3),
        )
    sheet.hull(
        _block(stance, [(-0.72, 0.8), (-0.7, 0.72), (-0.1, 0.74), (-0.1, 0.84), (-0.6, 0.88)], 0.14),
        (34, 32, 32),
    )
    if cycle.basket:
        sheet.hull(_block(stance, [(-0.95, 0.82), (-0.95, 1.14), (-0.62, 1.14), (-0.6, 0.82)], 0.2), (52, 52, 58))
    if np.cos(stance.yaw) > 0:
        _motorcycle_nose(sheet, stance, cycle, front, radius)
    else:
        _motorcycle_tail(sheet, stance, cycle, back, radius)


def _motorcycle_tail(sheet: Sheet, stance: Stance, cycle: Cycle, hub: tuple, radius: float) -> None:
    _wheel(sheet, stance, hub, radius, 0.15)
    sheet.hull(_block(stance, [(-0.9, 0.56), (-0.86, 0.66), (-0.5, 0.66), (-0.4, 0.5)], 0.1), cycle.colour)
    sheet.hull(_block(stance, [(-0.9, 0.66), (-0.92, 0.76), (-0.86, 0.78)], 0.1), TAIL_LIGHT)
    if np.cos(stance.yaw) < -0.3:
        sheet.hull(_block(stance, [(-0.94, 0.46), (-0.95, 0.58)], 0.11), (240, 240, 232))


def _motorcycle_nose(sheet: Sheet, stance: Stance, cycle: Cycle, hub: tuple, radius: float) -> None:
    _wheel(sheet, stance, hub, radius, 0.14)
    sheet.hull(
        _block(stance, [(0.5, radius + 0.18), (0.62, 2 * radius + 0.08), (0.9, radius + 0.2)], 0.09),
        cycle.colour,
    )
    for side in (-1, 1):
        _tube(sheet, stance, [(hub[0], side * 0.09, hub[2]), (0.42, side * 0.09, 0.95)], 0.06, STEEL)
    if cycle.style == "scooter":
        sheet.hull(_block(stance, [(0.38, 0.25), (0.5, 0.3), (0.52, 0.95), (0.4, 1.0)], 0.2), cycle.colour)
    _tube(sheet, stance, [(0.4, -0.34, 1.02), (0.46, 0.0, 0.98), (0.4, 0.34, 1.02)], 0.05, (40, 40, 42))
    for side in (-1, 1):
        _tube(sheet, stance, [(0.42, side * 0.26, 1.02), (0.44, side * 0.34, 1.2)], 0.025, (50, 50, 52))
        sheet.fill(stance([(0.44, side * 0.34, 1.22)])[0] + _disc(0.07 * stance.scale) * (1, 0.7), (70, 74, 80))
    lamp = stance([(0.56, 0.0, 0.9)])[0]
    sheet.fill(lamp + _disc(0.12 * stance.scale), shade(cycle.colour, 0.6))
    if np.cos(stance.yaw) > -0.2:
        sheet.fill(lamp + _disc(0.09 * stance.scale), HEADLIGHT)
