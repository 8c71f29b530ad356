"""Decides what stands where in a street: people, riders, vehicles, street furniture."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from .canvas import Sheet
from .chance import pick, weighted
from .chassis import Chassis
from .cycles import Cycle, draw_cycle, random_cycle, rider_pose
from .furniture import draw_bench, draw_furniture, random_furniture
from .looks import random_look
from .optics import Camera, Light, Stance
from .people import Anatomy, draw_person
from .poses import random_body, running, sitting, standing, walking
from .street import FAR, FRONTS_END, Street, draw_fronts
from .vehicles import DRAWERS, FOOTPRINTS

ATTEMPTS = 8  # places tried for one object before it is left out
CHILD = 0.16  # share of children

# How often a picture holds the rarer classes, before hidden ones are left out.
LARGE_VEHICLES = {"truck": 0.38, "bus": 0.36, "train": 0.46}
CYCLES = {"motorcycle": 0.36, "bicycle": 0.42}
RIDDEN = 0.62
CROWD, CAR_ROW, BENCH = 0.06, 0.12, 0.16

# Picture heights of people as shares of the picture's height: 40 to 110 of 160 pixels, children fewer.
# Of farther ones a small model on small pictures learns no outlines, and their faces are a pixel or two.
SMALLEST, LARGEST = 40 / 160, 110 / 160

PEOPLE = ("person", "rider", "persongroup")

Rectangle = tuple[float, float, float, float]  # left, right, near, far on the ground, metres


@dataclass(frozen=True)
class Part:
    """One labelled object; ``draw`` says where its joints are if it is a person."""

    label: str
    draw: Callable[[Sheet], Anatomy | None]
    stature: float = 0.0  # picture pixels; of people only


@dataclass(frozen=True)
class Unit:
    """Objects that belong together, such as a rider and the bicycle, from far to near.

    Attributes:
        distance: metres ahead of the camera.
        parts: its objects in painter's order.
        plan: the ground it takes up.
        height: metres, for its shadow.
        scenery: belongs to the street: it is never left out, brings its own haze and casts no shadow.
    """

    distance: float
    parts: tuple[Part, ...]
    plan: Rectangle
    height: float
    scenery: bool = False


def populate(street: Street, camera: Camera, light: Light, seed: list[int], people: bool) -> list[Unit]:
    """Everything that stands in the street, nearest first; a function of the arguments alone.

    Without people, the units that hold one (riders with their cycles, taken benches) are left out too.
    """
    placing = _Placing(street, camera, light, seed)
    placing.fronts()
    placing.vehicles()
    placing.cycles()
    placing.people()
    placing.furniture()
    units = [u for u in placing.units if people or not any(part.label in PEOPLE for part in u.parts)]
    return sorted(units, key=lambda unit: unit.distance)


class _Placing:
    def __init__(self, street: Street, camera: Camera, light: Light, seed: list[int]) -> None:
        self.street, self.camera, self.light, self.seed = street, camera, light, seed
        self.rng = np.random.default_rng(seed)
        self.units: list[Unit] = []

    def own_rng(self) -> np.random.Generator:
        """A stream for one object, so that leaving it out changes no other."""
        return np.random.default_rng([*self.seed, int(self.rng.integers(2**31))])

    def free(self, plan: Rectangle, gap: float) -> bool:
        left, right, near, far = plan
        return all(
            right + gap < other[0] or other[1] + gap < left or far + gap < other[2] or other[3] + gap < near
            for other in (unit.plan for unit in self.units)
        )

    def depth(self, nearest: float, farthest: float) -> float:
        """A distance whose logarithm is uniform, so that picture sizes are."""
        return float(np.exp(self.rng.uniform(np.log(nearest), np.log(max(nearest * 1.05, farthest)))))

    def column(self, z: float, margin: float = 0.02) -> float:
        """Metres to the right at distance ``z`` of a random place in the picture."""
        width = self.camera.size[1]
        return float((self.rng.uniform(margin, 1 - margin) * width - self.camera.centre) * z / self.camera.focal)

    def walkable(self, x: float, z: float) -> bool:
        left, right = self.street.fronts
        in_cross = self.street.end < z < self.street.back - 0.5
        return in_cross or (z < self.street.back - 0.5 and left + 0.4 < x < right - 0.4)

    def on_road(self, x: float, z: float) -> bool:
        street = self.street
        return street.kerbs[0] < x < street.kerbs[1] if z < street.end else z < street.end + street.cross

    def drivable(self, plan: Rectangle) -> bool:
        """Whether a vehicle is clear of the houses."""
        left, right, near, far = plan
        clear = near > self.street.end or (left > self.street.fronts[0] + 0.2 and right < self.street.fronts[1] - 0.2)
        return clear and far < self.street.back - 0.5

    def stance(self, x: float, z: float, yaw: float) -> Stance:
        foot = self.camera.ground([[x, z]])[0]
        tilt = min(0.25, self.camera.height / z)
        return Stance((float(foot[0]), float(foot[1])), self.camera.focal / z, yaw, tilt)

    def fronts(self) -> None:
        """The houses on both sides, which hide what is in the cross street."""
        end = min(self.street.end, FRONTS_END)
        for side, x in enumerate(self.street.fronts):
            rng = self.own_rng()

            def draw(sheet: Sheet, side: int = side, rng: np.random.Generator = rng) -> None:
                draw_fronts(sheet, side, self.street, self.camera, self.light, rng)

            self.units.append(Unit(end, (Part("building", draw),), (x, x, end, end), 0.0, scenery=True))

    # --- vehicles ---------------------------------------------------------------------------------------

    def vehicles(self) -> None:
        """Large ones before cars: they need the room."""
        if self.rng.random() < CAR_ROW:
            self.car_row()
        for kind, share in LARGE_VEHICLES.items():
            if self.rng.random() < share:
                self.vehicle(kind)
        for _ in range(1 + int(self.rng.binomial(4, 0.5))):
            self.vehicle("car")

    def vehicle(self, kind: str) -> None:
        length, width = FOOTPRINTS[kind]
        for _ in range(ATTEMPTS):
            x, z, yaw = self.berth(kind, length)
            across = 0.5 * (abs(np.sin(yaw)) * length + abs(np.cos(yaw)) * width)
            ahead = 0.5 * (abs(np.cos(yaw)) * length + abs(np.sin(yaw)) * width)
            plan = (x - across, x + across, z - ahead, z + ahead)
            nearest = 2.2 if kind == "car" else 4.0
            if plan[2] < nearest or not self.drivable(plan) or not self.free(plan, 0.35):
                continue
            rng, at = self.own_rng(), Chassis(self.camera, self.light, x, z, yaw)

            def draw(sheet: Sheet, rng: np.random.Generator = rng, at: Chassis = at) -> None:
                DRAWERS[kind](sheet, at, rng)

            height = 1.5 if kind == "car" else 3.0
            self.units.append(Unit(plan[2], (Part(kind, draw),), plan, height))
            return

    def berth(self, kind: str, length: float) -> tuple[float, float, float]:
        """A place and direction: in the cross street, in a lane, at the kerb, or turning."""
        street, rng = self.street, self.rng
        left, right = street.kerbs
        middle, lane = 0.5 * (left + right), 0.25 * (right - left)
        last = min(street.back - 1.0, 38.0)
        if street.closing != "open" and rng.random() < (0.5 if kind == "car" else 0.7):
            z = street.end + (1.9 if rng.random() < 0.5 else street.cross - 1.7)
            if kind == "train":
                z = street.end + 3.3
            return self.column(z, -0.05), z, float(pick(rng, (-1, 1)) * np.pi / 2 + rng.normal(0, 0.03))
        z = self.depth(max(4.6, length * 0.5 + 4.0), last - 0.5 * length)
        side = float(pick(rng, (-1, 1)))
        if kind == "train":
            return middle + 1.72, z, float(np.pi if rng.random() < 0.5 else 0.0)
        if kind == "car" and rng.random() < 0.2:
            return self.column(z), z, float(rng.uniform(-np.pi, np.pi))
        yaw = 0.0 if side > 0 else np.pi
        offset = lane if rng.random() < 0.5 else 0.5 * (right - left) - 1.1
        return middle + side * offset, z, float(yaw + rng.normal(0, 0.04))

    def car_row(self) -> None:
        """Distant parked cars that are labelled as one group."""
        side = int(self.rng.integers(2))
        x = self.street.kerbs[side] + (1.1 if side == 0 else -1.1)
        near = 24.0
        plan = (x - 1, x + 1, near - 2.5, near + 16)
        if plan[3] > min(self.street.end, FAR) or not self.free(plan, 0.3):
            return
        rng = self.own_rng()
        yaw = np.pi if side == 0 else 0.0

        def draw(sheet: Sheet) -> None:
            for z in np.arange(near + 13.5, near - 1, -5.2):
                DRAWERS["car"](sheet, Chassis(self.camera, self.light, x, float(z), yaw), rng)

        self.units.append(Unit(near, (Part("cargroup", draw),), plan, 1.5))

    # --- two-wheelers -----------------------------------------------------------------------------------

    def cycles(self) -> None:
        """Ridden and parked ones."""
        for kind, share in CYCLES.items():
            for _ in range(int(self.rng.random() < share) + int(self.rng.random() < share * 0.25)):
                self.cycle(kind)

    def cycle(self, kind: str) -> None:
        rng = self.rng
        ridden = rng.random() < RIDDEN
        for _ in range(ATTEMPTS):
            z = self.depth(3.4, min(10.0, self.street.back - 1))
            x = self.column(z)
            yaw = float(pick(rng, (0.0, np.pi, np.pi / 2, -np.pi / 2)) + rng.normal(0, 0.35))
            plan = (x - 0.9, x + 0.9, z - 0.5, z + 0.5)
            fits = self.on_road(x, z) if ridden else not self.on_road(x, z) or rng.random() < 0.2
            if fits and self.walkable(x, z) and self.free(plan, 0.1):
                self.units.append(self.cyclist(kind, ridden, x, z, yaw, plan))
                return

    def cyclist(self, kind: str, ridden: bool, x: float, z: float, yaw: float, plan: Rectangle) -> Unit:
        own, stance = self.own_rng(), self.stance(x, z, yaw)
        machine: Cycle = random_cycle(own, kind)
        parts = [Part(kind, lambda sheet: draw_cycle(sheet, stance, machine))]
        if ridden:
            body, look = random_body(own, False), random_look(own, False)
            if own.random() < (0.9 if kind == "motorcycle" else 0.55):
                look = replace(look, hat="helmet")
            bag = look.bag if look.bag == "backpack" else "none"
            look = replace(look, bag=bag, upper="jacket" if look.upper == "coat" else look.upper)
            if look.lower == "skirt":
                look = replace(look, lower="leggings")
            pose = rider_pose(machine, body, float(own.normal(0, 0.3)))
            parts.append(
                Part(
                    "rider",
                    lambda sheet: draw_person(sheet, stance, body, look, pose, self.light),
                    body.height * stance.scale,
                )
            )
        return Unit(z, tuple(parts), plan, 1.6 if ridden else 0.9)

    # --- people -----------------------------------------------------------------------------------------

    def people(self) -> None:
        """Single ones, pairs and groups; on benches; crowds far away."""
        if self.rng.random() < BENCH:
            self.bench()
        if self.rng.random() < CROWD:
            self.crowd()
        wanted = 0 if self.rng.random() < 0.07 else 2 + int(self.rng.poisson(3.1))
        last: tuple[float, float, float] | None = None
        for _ in range(wanted):
            beside = last if last and self.rng.random() < 0.32 else None
            last = self.person(beside) or last

    def person(self, beside: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        """Place one person, perhaps beside another; returns right, forward, yaw."""
        for _ in range(ATTEMPTS):
            if beside:
                x = beside[0] + float(self.rng.uniform(0.38, 0.8) * pick(self.rng, (-1, 1)))
                z = max(2.4, beside[1] + float(self.rng.uniform(-0.6, 0.6)))
                yaw = beside[2] + float(self.rng.normal(0, 0.3))
            else:
                z = min(
                    self.depth(1.7 * self.camera.focal / (LARGEST * self.camera.size[0]), self.far_end()),
                    self.street.back - 0.7,
                )
                x = self.column(z)
                yaw = self.heading(x, z)
            plan = (x - 0.2, x + 0.2, z - 0.15, z + 0.15)
            if self.walkable(x, z) and self.free(plan, 0.06):
                self.units.append(self.walker(x, z, yaw, plan))
                return x, z, yaw
        return None

    def far_end(self) -> float:
        return 1.7 * self.camera.focal / (SMALLEST * self.camera.size[0])

    def heading(self, x: float, z: float) -> float:
        rng = self.rng
        if rng.random() < 0.25:
            return float(rng.uniform(-np.pi, np.pi))
        if self.on_road(x, z) and rng.random() < 0.6:
            return float(pick(rng, (-1, 1)) * np.pi / 2 + rng.normal(0, 0.35))
        return float((0.0 if rng.random() < 0.62 else np.pi) + rng.normal(0, 0.4))

    def walker(self, x: float, z: float, yaw: float, plan: Rectangle) -> Unit:
        own = self.own_rng()
        child = own.random() < CHILD
        body, look = random_body(own, child), random_look(own, child)
        pose = weighted(own, {standing: 0.4, walking: 0.5, running: 0.1})(own)
        stance = self.stance(x, z, yaw)
        part = Part(
            "person", lambda sheet: draw_person(sheet, stance, body, look, pose, self.light), body.height * stance.scale
        )
        return Unit(z, (part,), plan, body.height)

    def bench(self) -> None:
        """A bench along the pavement, usually taken."""
        for _ in range(ATTEMPTS):
            z = self.depth(4.5, min(14.0, self.street.back - 1))
            x = self.column(z, 0.1)
            plan = (x - 0.85, x + 0.85, z - 0.5, z + 0.3)
            if self.on_road(x, z) or not self.walkable(x, z) or not self.free(plan, 0.1):
                continue
            own, seat = self.own_rng(), self.stance(x, z, 0.0)
            bench = Part("static", partial(draw_bench, stance=seat, light=self.light, rng=own))
            sitters = [self.sitter(x + place, z) for place in (-0.4, 0.4) if self.rng.random() < 0.6]
            parts = [bench, *sitters]
            self.units.append(Unit(z, tuple(parts), plan, 0.9))
            return

    def sitter(self, x: float, z: float) -> Part:
        own = self.own_rng()
        body, look, pose = random_body(own, False), random_look(own, False), sitting(own)
        look = replace(look, bag="none")
        stance = self.stance(x, z - 0.05, float(own.normal(0, 0.25)))
        return Part(
            "person", lambda sheet: draw_person(sheet, stance, body, look, pose, self.light), body.height * stance.scale
        )

    def crowd(self) -> None:
        """Distant people who are labelled as one group."""
        for _ in range(ATTEMPTS):
            z = min(self.depth(11.0, 20.0), self.street.back - 1.2)
            x = self.column(z, 0.15)
            plan = (x - 1.6, x + 1.6, z - 0.5, z + 0.5)
            if z < 8 or not (self.walkable(plan[0], z) and self.walkable(plan[1], z) and self.free(plan, 0.2)):
                continue
            own = self.own_rng()
            count = int(own.integers(7, 13))
            places = np.sort(own.uniform(-0.45, 0.45, count))[::-1]
            offsets = own.permutation(np.linspace(-1.4, 1.4, count))

            def draw(
                sheet: Sheet, x: float = x, z: float = z, own: np.random.Generator = own,
                places: np.ndarray = places, offsets: np.ndarray = offsets,
            ) -> None:  # fmt: skip
                for place, offset in zip(places, offsets, strict=True):
                    child = own.random() < CHILD
                    stance = self.stance(x + float(offset), z + float(place), float(own.uniform(-np.pi, np.pi)))
                    draw_person(
                        sheet, stance, random_body(own, child), random_look(own, child), standing(own), self.light
                    )

            self.units.append(Unit(z, (Part("persongroup", draw),), plan, 1.7))
            return

    # --- furniture --------------------------------------------------------------------------------------

    def furniture(self) -> None:
        """On the pavements, mostly near the kerb."""
        for _ in range(int(self.rng.integers(3, 9))):
            item = random_furniture(self.rng)
            for _ in range(ATTEMPTS):
                z = self.depth(3.2, min(26.0, self.street.back - 1))
                x = self.column(z)
                if self.rng.random() < 0.5 and z < self.street.end:
                    side = int(self.rng.integers(2))
                    x = self.street.kerbs[side] + (-1 if side == 0 else 1) * (0.3 + item.half_width)
                plan = (x - item.half_width, x + item.half_width, z - 0.3, z + 0.3)
                if self.on_road(x, z) or not self.walkable(x, z) or not self.free(plan, 0.05):
                    continue
                own, stance = self.own_rng(), self.stance(x, z, 0.0)

                def draw(sheet: Sheet, item=item, stance=stance, own=own) -> None:  # noqa: ANN001
                    draw_furniture(item, sheet, stance, self.light, own)

                self.units.append(Unit(z, (Part(item.label, draw),), plan, item.height))
                break
