"""Draws buses, lorries and trams, and lists all large vehicles."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .canvas import Colour, Sheet, patch, shade
from .cars import draw_car
from .chance import pick, weighted
from .chassis import BUMPER, HEADLIGHT, INSIDE, PAINT, TAIL_LIGHT, Body, Chassis, end_quad

NAMES = ("NORDBUS", "KAFFEE", "FRISCH", "UMZUG", "CARGO", "LINIE", "BROT", "POST", "OBST", "STADTWERK", "MILCH")
BUS_STOPS, TRAM_STOPS = ("ZENTRUM", "HAFEN", "BAHNHOF", "MARKT"), ("RINGBAHN", "WERFT", "ZOO", "DOM")
BUS_PAINT = ((214, 168, 40), (188, 40, 40), (236, 236, 232), (60, 112, 168), (72, 132, 84), (216, 112, 44))
TRAM_PAINT = ((196, 44, 44), (238, 206, 90), (240, 240, 236), (52, 122, 96), (64, 110, 170))
AMBER, DISPLAY = (255, 180, 48), (22, 22, 24)  # destination signs


# --- buses ------------------------------------------------------------------------------------------------


def draw_bus(sheet: Sheet, at: Chassis, rng: np.random.Generator) -> None:
    """A city bus."""
    body, colour = Body(sheet, at), pick(rng, BUS_PAINT)
    skirt = pick(rng, (shade(colour, 0.72), (240, 240, 240), (60, 62, 70), (44, 90, 150)))
    line, name = f"{int(rng.integers(1, 99))} {pick(rng, BUS_STOPS)}", pick(rng, NAMES)
    advert = rng.random() < 0.5
    front, half, low, high = float(rng.uniform(4.6, 5.9)), 1.25, 0.32, 3.05
    rear, axles = -front, (2.3 - front, front - 2.4)
    for axle in axles:
        body.wheels(axle, half - 0.02, 0.48)
    roof = [(rear, high - 0.15), (rear + 0.25, high), (front - 0.3, high), (front, high - 0.3)]
    body.prism([(rear, low), *roof, (front + 0.06, low)], half, colour)
    for side, flank in body.flanks(rear, front, half, low, high):
        _below(body, flank, skirt, 0.8)
        _bus_windows(body, flank, side > 0, rng)
        if advert:
            body.write(patch(flank, 0.42, 0.58, 0.7, 0.78), name, (250, 250, 250), shade(skirt, 0.8))
    for axle in axles:
        body.near_wheel(axle, half, 0.48)
    _bus_front(body, end_quad(1, front + 0.05, half, low, high), line)
    _bus_rear(body, end_quad(-1, rear - 0.01, half, low, high))


def _below(body: Body, flank: NDArray[np.float64], colour: Colour, top: float) -> None:
    """Paint the lower part of a flank."""
    body.face(patch(flank, 0, top, 1, 1), colour)


def _bus_windows(body: Body, flank: NDArray[np.float64], doors: bool, rng: np.random.Generator) -> None:
    width = 0.94 / 7
    for i in range(7):
        left = 0.03 + i * width
        pane = patch(flank, left, 0.12, left + width - 0.012, 0.52)
        if doors and i in (1, 4):
            body.glass(patch(flank, left, 0.12, left + width - 0.012, 0.95), 0.15)
        else:
            body.glass(pane, 0.3)
        if rng.random() < 0.4:
            body.fill(patch(pane, 0.3, 0.5, 0.65, 1.0), INSIDE)


def _bus_front(body: Body, quad: NDArray[np.float64], line: str) -> None:
    if body.at.seen(quad) is None:
        return
    body.glass(patch(quad, 0.05, 0.17, 0.95, 0.69), 0.25)
    body.fill(patch(quad, 0.6, 0.42, 0.74, 0.69), INSIDE)
    body.write(patch(quad, 0.15, 0.03, 0.85, 0.14), line, AMBER, DISPLAY)
    body.lamps(quad, 0.05, 0.18, 0.78, 0.86, HEADLIGHT)
    body.fill(patch(quad, 0.0, 0.92, 1.0, 1.0), BUMPER)
    body.plate(patch(quad, 0.36, 0.85, 0.64, 0.92), "OS B 417")


def _bus_rear(body: Body, quad: NDArray[np.float64]) -> None:
    if body.at.seen(quad) is None:
        return
    body.glass(patch(quad, 0.1, 0.1, 0.9, 0.44))
    for i in range(4):
        body.fill(patch(quad, 0.2, 0.58 + 0.06 * i, 0.8, 0.61 + 0.06 * i), (52, 52, 56))
    body.lamps(quad, 0.03, 0.1, 0.55, 0.78, TAIL_LIGHT)
    body.plate(patch(quad, 0.36, 0.84, 0.64, 0.91), "OS B 417")


# --- lorries ----------------------------------------------------------------------------------------------


def draw_truck(sheet: Sheet, at: Chassis, rng: np.random.Generator) -> None:
    """A lorry: a cab, and a box, a tarpaulin or a tipper behind it."""
    body, cab, load = Body(sheet, at), pick(rng, PAINT), pick(rng, (*PAINT, (240, 240, 238), (232, 226, 210)))
    name, kind = pick(rng, NAMES), weighted(rng, {"box": 0.5, "tarpaulin": 0.28, "tipper": 0.22})
    front = float(rng.uniform(3.3, 4.2))
    body.underside(0.1 - front, front - 0.2, 1.02, 0.4, 0.95)
    for axle in (1.0 - front, 2.1 - front, front - 1.0):
        body.wheels(axle, 1.2, 0.47)
    away = np.cos(at.yaw) > 0.2  # then the load is nearer than the cab
    if away:
        _cab(body, front, cab)
    _load(body, front, load, kind, name)
    if not away:
        _cab(body, front, cab)


def _cab(body: Body, front: float, colour: Colour) -> None:
    half, roof, back = 1.18, 2.7, front - 1.85
    body.prism([(back, 0.45), (back, roof), (front - 0.35, roof), (front, 1.55), (front + 0.02, 0.45)], half, colour)
    for _, window in body.flanks(front - 1.25, front - 0.3, half, 1.5, 2.35):
        body.glass(window)
    screen = np.array(
        [[front - 0.35, half, roof], [front - 0.35, -half, roof], [front, -half, 1.55], [front, half, 1.55]]
    )
    if body.at.seen(screen) is not None:
        body.glass(patch(screen, 0.06, 0.14, 0.94, 0.95))
        _cab_front(body, end_quad(1, front + 0.02, half, 0.45, 1.55), colour)
    body.near_wheel(front - 1.0, 1.2, 0.47)


def _cab_front(body: Body, quad: NDArray[np.float64], colour: Colour) -> None:
    for i in range(3):
        body.fill(patch(quad, 0.2, 0.12 + 0.14 * i, 0.8, 0.2 + 0.14 * i), shade(colour, 0.55))
    body.lamps(quad, 0.03, 0.18, 0.62, 0.76, HEADLIGHT)
    body.fill(patch(quad, 0, 0.85, 1, 1), BUMPER)
    body.plate(patch(quad, 0.36, 0.72, 0.64, 0.83), "HH CT 88")


def _load(body: Body, front: float, colour: Colour, kind: str, name: str) -> None:
    rear, bed, half, low = -front, front - 2.0, 1.22, 0.95
    top = {"box": 3.3, "tarpaulin": 3.1, "tipper": 2.0}[kind]
    ink = (250, 250, 250) if sum(colour) < 380 else (40, 50, 80)
    body.prism([(rear, low), (rear, top), (bed, top), (bed, low)], half, colour)
    for _, flank in body.flanks(rear, bed, half, low, top):
        if kind == "box":
            ground = body.at.light.on(colour, body.at.seen(flank))
            body.write(patch(flank, 0.2, 0.28, 0.8, 0.55), name, ink, ground)
            body.fill(patch(flank, 0.0, 0.82, 1.0, 0.9), shade(colour, 0.7))
        else:
            for i in range(1, 8):
                body.fill(patch(flank, i / 8 - 0.008, 0.0, i / 8 + 0.008, 1.0), shade(colour, 0.72))
    back = end_quad(-1, rear - 0.01, half, low, top)
    if body.at.seen(back) is not None:
        body.fill(patch(back, 0.48, 0.05, 0.51, 0.95), shade(colour, 0.6))
        body.fill(patch(back, 0.0, 0.94, 1.0, 1.0), BUMPER)
        body.lamps(back, 0.02, 0.12, 1.0, 1.08, TAIL_LIGHT)
    for axle in (rear + 1.0, rear + 2.1):
        body.near_wheel(axle, 1.2, 0.47)


# --- trams ------------------------------------------------------------------------------------------------


def draw_train(sheet: Sheet, at: Chassis, rng: np.random.Generator) -> None:
    """A tram with tapered ends, a band of windows and a pantograph."""
    body, colour = Body(sheet, at), pick(rng, TRAM_PAINT)
    second = pick(rng, ((244, 240, 226), (70, 74, 84), shade(colour, 0.66)))
    line = f"{int(rng.integers(1, 19))} {pick(rng, TRAM_STOPS)}"
    front, half, low, high = float(rng.uniform(7.0, 9.5)), 1.08, 0.2, 3.25
    # The pantograph comes first: the roof of a near tram hides it.
    steel = (50, 52, 56)
    body.line([[-0.6, 0, high], [0.3, 0, high + 0.5], [-0.4, 0, high + 0.95]], 0.06, steel)
    body.line([[-0.4, -0.7, high + 0.95], [-0.4, 0.7, high + 0.95]], 0.07, steel)
    lower = [(0.15 - front, low), (-front, 1.2)]
    upper = [(0.7 - front, high), (front - 0.7, high)]
    taper = np.array([0, 0, 0.08, 0.08, 0, 0])
    body.prism([*lower, *upper, (front, 1.2), (front - 0.15, low)], half - taper, colour)
    for _, flank in body.flanks(0.1 - front, front - 0.1, half + 0.02, low, high - 0.1):
        _below(body, flank, second, 0.62)
        _below(body, flank, shade(second, 0.5), 0.92)
        _tram_windows(body, flank)
    for end in (1, -1):
        _tram_end(body, end, end * front, half, line)


def _tram_windows(body: Body, flank: NDArray[np.float64]) -> None:
    body.fill(patch(flank, 0.05, 0.14, 0.95, 0.5), (40, 50, 60))
    for i in range(9):
        left = 0.06 + 0.1 * i
        body.glass(patch(flank, left, 0.17, left + 0.085, 0.47))
        if i in (1, 4, 7):
            body.fill(patch(flank, left, 0.14, left + 0.08, 0.9), (52, 64, 76))
            body.fill(patch(flank, left + 0.037, 0.14, left + 0.043, 0.9), (28, 32, 38))
    for joint in (1 / 3, 2 / 3):
        body.fill(patch(flank, joint - 0.008, 0.0, joint + 0.008, 1.0), (38, 40, 44))


def _tram_end(body: Body, end: int, nose: float, half: float, line: str) -> None:
    bottom, top, neck = half * end, (half - 0.08) * end, nose - 0.7 * end
    screen = np.array([[neck, top, 3.25], [neck, -top, 3.25], [nose, -bottom, 1.2], [nose, bottom, 1.2]])
    if body.at.seen(screen) is None:
        return
    body.glass(patch(screen, 0.08, 0.24, 0.92, 0.9))
    body.write(patch(screen, 0.15, 0.06, 0.85, 0.2), line, AMBER, DISPLAY)
    lower = end_quad(end, nose, half, 0.2, 1.2)
    body.lamps(lower, 0.06, 0.16, 0.25, 0.5, HEADLIGHT if end > 0 else TAIL_LIGHT)
    body.fill(patch(lower, 0, 0.75, 1, 1), BUMPER)


DRAWERS: dict[str, Callable[[Sheet, Chassis, np.random.Generator], None]] = {
    "car": draw_car,
    "bus": draw_bus,
    "truck": draw_truck,
    "train": draw_train,
}
# Greatest length and width in metres.
FOOTPRINTS = {"car": (4.9, 1.9), "bus": (11.8, 2.5), "truck": (8.4, 2.5), "train": (19.0, 2.4)}
