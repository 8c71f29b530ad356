"""Draws the street itself: sky, ground, house fronts, and the polygons that label them."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .canvas import SUPERSAMPLING, Sheet, ellipse, mix, shade, warp_onto
from .chance import pick, weighted
from .houses import FLOOR, ROOFS, house_front
from .optics import Camera, Light

SKY = (80, 160)  # rows and columns of the coarse sky
FAR = 90.0  # metres to the skyline of an open street
FRONTS_END = 70.0  # metres to the last house of an open street
TILE = 256  # pixels of the repeated ground texture
TILE_METRES = 5.0
TEXELS = 1.5  # texture pixels per picture pixel of a house front
NEAREST = 0.9  # metres; ground nearer than that is below every picture

ASPHALT = ((122, 122, 126), (106, 108, 112), (136, 134, 130), (114, 112, 112))
PAVING = ((190, 182, 172), (172, 170, 168), (198, 188, 168), (162, 158, 154))
LEAVES = ((66, 104, 56), (88, 122, 58), (52, 88, 62), (112, 126, 62), (142, 104, 52))


@dataclass(frozen=True)
class Street:
    """Plan of a street along the view; metres right of the camera and ahead of it.

    Attributes:
        kerbs: left and right edge of the road.
        fronts: left and right line of the houses.
        end: where a cross street begins, or FAR for an open street.
        cross: width of the cross street up to the pavement on its far side.
        closing: ``houses`` or ``park`` behind the cross street, ``open`` without one.
        zebra: where a zebra crossing begins, or None.
        rails: tram rails along the road and along the cross street.
    """

    kerbs: tuple[float, float]
    fronts: tuple[float, float]
    end: float
    cross: float
    closing: str
    zebra: float | None
    rails: bool

    @property
    def back(self) -> float:
        """Distance of what closes the view."""
        return self.end + self.cross + 2.6 if self.closing != "open" else FAR


Labelled = tuple[str, NDArray[np.int32]]


def random_street(rng: np.random.Generator) -> Street:
    """A street of any width, open or closed by a cross street."""
    half = rng.uniform(3.2, 5.5)
    camera_at = rng.uniform(-0.75, 1.05) * half
    left, right = -half - camera_at, half - camera_at
    walks = rng.uniform(2.0, 5.0, 2)
    closing = weighted(rng, {"houses": 0.45, "park": 0.22, "open": 0.33})
    end = float(rng.uniform(8.0, 30.0)) if closing != "open" else FAR
    zebra = float(rng.uniform(4.5, 11.0)) if rng.random() < 0.4 else None
    return Street(
        (left, right),
        (left - float(walks[0]), right + float(walks[1])),
        end,
        float(rng.uniform(6.5, 8.5)),
        closing,
        zebra if zebra is None or zebra + 4 < end else None,
        bool(rng.random() < 0.45),
    )


def draw_backdrop(
    street: Street, camera: Camera, light: Light, shadow: NDArray[np.float32], rng: np.random.Generator
) -> tuple[Sheet, list[Labelled]]:
    """Draw the sky, the ground and what closes the view.

    Args:
        street: the plan.
        camera: who sees it.
        light: the light it is seen in.
        shadow: (h, w) share of the light that reaches the ground, in [0, 1].
        rng: chooses the rest.

    Returns:
        The sheet, and label and outline of each piece in painter's order.
    """
    backdrop = _Backdrop(Sheet(camera.size), street, camera, light, rng)
    backdrop.sky()
    backdrop.ground(shadow)
    backdrop.closing()
    return backdrop.sheet, backdrop.labels


def draw_fronts(
    sheet: Sheet, side: int, street: Street, camera: Camera, light: Light, rng: np.random.Generator
) -> None:
    """Draw the row of houses on one side of the street, 0 left or 1 right, up to the cross street."""
    _Backdrop(sheet, street, camera, light, rng).side_fronts(side)


def clip_to_picture(points: ArrayLike, size: tuple[int, int]) -> NDArray[np.int32] | None:
    """The part of a convex outline inside the picture, as integer vertices (n, 2); None if none is left."""
    height, width = size
    frame = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float32)
    area, inside = cv2.intersectConvexConvex(np.asarray(points, np.float32), frame)
    return np.round(inside.reshape(-1, 2)).astype(np.int32) if area > 2 and inside is not None else None


class _Backdrop:
    """Draws the street onto a sheet and collects the labels."""

    def __init__(self, sheet: Sheet, street: Street, camera: Camera, light: Light, rng: np.random.Generator) -> None:
        self.sheet, self.street, self.camera, self.light, self.rng = sheet, street, camera, light, rng
        self.labels: list[Labelled] = []

    def label(self, name: str, points: ArrayLike) -> None:
        outline = clip_to_picture(points, self.camera.size)
        if outline is not None:
            self.labels.append((name, outline))

    def sky(self) -> None:
        """A gradient with drifting clouds, drawn coarsely and enlarged."""
        height, width = self.camera.size
        rows, columns = SKY
        zenith, low = np.array(self.light.sky, np.float32)
        fall = np.clip(np.linspace(0, height / max(self.camera.horizon, 1), rows), 0, 1)[:, None, None]
        cloud = np.zeros((rows, columns), np.float32)
        for _ in range(int(self.rng.integers(3, 9))):
            x, y, w = self.rng.uniform(0, columns), self.rng.uniform(0, 0.45 * rows), self.rng.uniform(8, 30)
            density = float(self.rng.uniform(0.2, 0.6))
            cv2.ellipse(cloud, (int(x), int(y)), (int(w), int(w * 0.22) + 1), 0, 0, 360, density, -1)
        cloud = cv2.GaussianBlur(cloud, (0, 0), 3)[..., None]
        coarse = (zenith * (1 - fall) + low * fall) * (1 - cloud) + np.float32(0.4 * low + 153) * cloud
        fine = (width * SUPERSAMPLING, height * SUPERSAMPLING)
        self.sheet.pixels[..., :3] = cv2.resize(coarse.astype(np.uint8), fine, interpolation=cv2.INTER_LINEAR)
        self.label("sky", [[0, 0], [width, 0], [width, height], [0, height]])

    # --- ground -----------------------------------------------------------------------------------------

    def flat(self, points: ArrayLike, colour: tuple[int, int, int], label: str | None = None) -> None:
        """Paint a convex piece of ground."""
        outline = self.camera.ground(points)
        self.sheet.fill(outline, colour)
        if label:
            self.label(label, outline)

    def strip(
        self,
        left: float,
        right: float,
        near: float,
        far: float,
        colour: tuple[int, int, int],
        label: str | None = None,
    ) -> None:
        self.flat([[left, far], [right, far], [right, near], [left, near]], colour, label)

    def ground(self, shadow: NDArray[np.float32]) -> None:
        """Road, pavements, kerbs, markings, rails; then texture and haze."""
        street, rng = self.street, self.rng
        asphalt = pick(rng, ASPHALT)
        paving = pick(rng, PAVING)
        verge = pick(rng, LEAVES[:2]) if rng.random() < 0.25 else None
        walk_end = min(street.end, FAR)
        self.strip(-400, 400, NEAREST, 4000, asphalt, "road")
        for kerb, front in zip(street.kerbs, street.fronts, strict=True):
            sign = np.sign(front - kerb)
            self.strip(*sorted((kerb, kerb + sign * 60)), NEAREST, walk_end, paving, "sidewalk")
            if verge:
                self.strip(*sorted((kerb + sign * 0.3, kerb + sign * 1.2)), NEAREST, walk_end, verge, "terrain")
            self.strip(*sorted((kerb, kerb + sign * 0.16)), NEAREST, walk_end, mix(paving, (220, 220, 220), 0.4))
        if street.closing != "open":
            far_kerb = street.end + street.cross
            self.strip(-200, 200, far_kerb, street.back + 30, paving, "sidewalk")
            self.strip(-200, 200, far_kerb, far_kerb + 0.2, mix(paving, (220, 220, 220), 0.4))
        self.markings(walk_end)
        self.patches()
        self.texture(shadow)

    def markings(self, walk_end: float) -> None:
        street, white = self.street, (214, 214, 208)
        left, right = street.kerbs
        middle = 0.5 * (left + right)
        if street.zebra is not None:
            for x in np.arange(left + 0.3, right - 0.3, 1.0):
                self.strip(x, x + 0.5, street.zebra, street.zebra + 3.2, white)
        free_from = 2.0 if street.zebra is None else street.zebra + 4.5
        for z in np.arange(free_from, walk_end - 1, 5.0):
            self.strip(middle - 0.07, middle + 0.07, z, z + 2.4, white)
        if street.rails:
            for x in (middle + 1.0, middle + 2.45):
                self.strip(x - 0.05, x + 0.05, NEAREST, street.back, (58, 56, 56))
            if street.closing != "open":
                for z in (street.end + 2.6, street.end + 4.0):
                    self.strip(-200, 200, z, z + 0.12, (58, 56, 56))

    def patches(self) -> None:
        """Repairs, manholes and cracks."""
        left, right = self.street.kerbs
        for _ in range(int(self.rng.integers(2, 6))):
            x, z = self.rng.uniform(left, right), self.rng.uniform(2.5, 16)
            w, d, tone = self.rng.uniform(0.3, 1.2), self.rng.uniform(0.5, 2.0), self.rng.uniform(84, 128)
            self.strip(x - w, x + w, z, z + d, (int(tone),) * 3)
        for _ in range(int(self.rng.integers(0, 3))):
            x, z = self.rng.uniform(left, right), self.rng.uniform(3, 12)
            self.flat(ellipse((x, z), (0.36, 0.36)), (60, 60, 62))
            self.flat(ellipse((x, z), (0.27, 0.27)), (82, 80, 78))

    def texture(self, shadow: NDArray[np.float32]) -> None:
        """Grain of the asphalt, joints of the paving, shadows; all fade into the haze."""
        camera, street = self.camera, self.street
        height, width = camera.size
        top = int(np.ceil(camera.horizon))
        rows = np.arange(top, height, dtype=np.float32) + np.float32(0.5 - camera.horizon)
        z = (np.float32(camera.focal * camera.height) / np.maximum(rows, 0.25))[:, None]
        x = (np.arange(width, dtype=np.float32) + np.float32(0.5 - camera.centre)) * (z / np.float32(camera.focal))
        scale = np.float32(TILE / TILE_METRES)
        depth = np.broadcast_to(z * scale % TILE, x.shape)
        grain = cv2.remap(_grain(), x * scale % TILE, np.ascontiguousarray(depth), cv2.INTER_LINEAR)
        factor = 1 + grain * np.clip(9.0 / z, 0.15, 1.0)
        paved = ((x < street.kerbs[0]) | (x > street.kerbs[1])) & (z < street.end)
        joint = (x % np.float32(0.8) < 0.07) | (z % np.float32(0.8) < 0.07)
        factor -= (paved & joint) * (0.16 * np.clip(1.3 - z / 12, 0, 1))
        seen = np.exp(-z / np.float32(self.light.haze))
        factor *= shadow[top:] * seen * np.float32(self.light.on((200, 200, 200), (0, 1, 0))[0] / 200)
        region = self.sheet.pixels[top * SUPERSAMPLING :, :, :3]
        factor = cv2.resize(factor, region.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        haze = ((1 - seen) * np.asarray(self.light.sky[1], np.float32)).repeat(SUPERSAMPLING, axis=0)
        # Whole rows of 3 * width values, because NumPy is slow along an axis of 3.
        colours = region.reshape(len(region), -1) * cv2.merge([factor] * 3).reshape(len(region), -1)
        colours += np.tile(haze, (1, region.shape[1]))
        region[:] = np.minimum(colours, 255).reshape(region.shape)

    # --- what stands on it ------------------------------------------------------------------------------

    def front(self, corners: ArrayLike, width: float, floors: int, distance: float, normal: ArrayLike) -> None:
        """Stand a house front up on two ground points (right, forward), left one first."""
        (x0, z0), (x1, z1) = corners
        high = floors * FLOOR + 0.5
        quad = self.camera.project([[x0, high, z0], [x1, high, z1], [x1, 0, z1], [x0, 0, z0]])
        scale = TEXELS * self.camera.focal / max(distance, 4.0)
        texture = house_front(self.rng, width, floors, scale, self.light)
        texture = cv2.convertScaleAbs(texture, alpha=self.light.on((200, 200, 200), normal)[0] / 200)
        warp_onto(self.sheet.pixels, self.light.through_haze(texture, distance), quad)
        self.label("building", quad)

    def roof(self, x0: float, x1: float, z: float, floors: int) -> None:
        """A pitched roof with a chimney on a front that faces the camera."""
        low = floors * FLOOR + 0.5
        high, inset = low + self.rng.uniform(1.2, 3.0), self.rng.uniform(0.1, 0.5) * (x1 - x0)
        colour = self.light.hazy(pick(self.rng, ROOFS), z)
        outline = self.camera.project(
            [[x0 - 0.2, low, z], [x0 + inset, high, z], [x1 - inset, high, z], [x1 + 0.2, low, z]]
        )
        at = x0 + inset + 0.2 * (x1 - x0 - 2 * inset)
        chimney = self.camera.project(
            [[at, low, z], [at, high + 0.9, z], [at + 0.8, high + 0.9, z], [at + 0.8, low, z]]
        )
        for part, paint in ((chimney, shade(colour, 0.75)), (outline, colour)):
            self.sheet.fill(part, paint)
            self.label("building", part)

    def closing(self) -> None:
        """Houses or a park across the end of the street, or a skyline far away."""
        back, rng = self.street.back, self.rng
        half_view = 0.75 * self.camera.size[1] / self.camera.focal * back
        if self.street.closing == "houses":
            x = -half_view
            while x < half_view:
                width, floors = float(rng.uniform(7, 15)), int(rng.integers(2, 6))
                self.front([(x, back), (x + width, back)], width, floors, back, (0, 0, -1))
                if rng.random() < 0.7:
                    self.roof(x, x + width, back, floors)
                x += width
        else:
            self.skyline(FAR if self.street.closing == "open" else back + 40, half_view * 2)
            if self.street.closing == "park":
                self.trees(back, half_view)

    def skyline(self, z: float, half: float) -> None:
        x = -half
        while x < half:
            width, high = self.rng.uniform(6, 22), self.rng.uniform(5, 20)
            colour = self.light.hazy((120, 116, 118), z * 0.9)
            quad = self.camera.project([[x, high, z], [x + width, high, z], [x + width, 0, z], [x, 0, z]])
            self.sheet.fill(quad, shade(colour, float(self.rng.uniform(0.86, 1.02))))
            self.label("building", quad)
            x += width

    def trees(self, z: float, half: float) -> None:
        """A hedge and a row of crowns."""
        leaf = pick(self.rng, LEAVES)
        crowns = (
            self.rng.uniform(-half, half, (16, 1)),
            self.rng.uniform(3.2, 6.5, (16, 1)),
            self.rng.uniform(2.0, 3.4, (16, 1)),
        )
        for (x,), (y,), (r,) in zip(*crowns, strict=True):
            centre, radius = self.camera.project([[x, y, z]])[0], r * self.camera.focal / z
            tone = self.light.hazy(shade(leaf, 0.7 + 0.08 * y / 2), z)
            trunk = self.camera.project([[x - 0.2, y, z], [x + 0.2, y, z], [x + 0.25, 0, z], [x - 0.25, 0, z]])
            self.sheet.fill(trunk, self.light.hazy((84, 68, 54), z))
            self.label("vegetation", trunk)
            for share, up, factor in ((1.0, 0.0, 0.84), (0.8, 0.12, 1.0), (0.45, 0.3, 1.16)):
                outline = ellipse(
                    centre - (-0.2 * (1 - share) * radius * self.light.side, up * radius),
                    (radius * share, radius * 0.85 * share),
                )
                self.sheet.fill(outline, shade(tone, factor))
            self.label("vegetation", ellipse(centre, (radius, radius * 0.85)))
        hedge = self.camera.project([[-half, 2.6, z], [half, 2.6, z], [half, 0, z], [-half, 0, z]])
        self.sheet.fill(hedge, self.light.hazy(shade(leaf, 0.62), z))
        self.label("vegetation", hedge)

    def side_fronts(self, side: int) -> None:
        """A row of houses along the street, far to near."""
        camera, x = self.camera, self.street.fronts[side]
        last = min(self.street.end, FRONTS_END)
        margin = camera.centre if side == 0 else camera.size[1] - camera.centre
        z = max(1.2, 0.85 * abs(x) * camera.focal / margin)
        houses = []
        while z < last - 2.5:
            width = min(float(self.rng.uniform(6, 14)), last - z)
            houses.append((z, z + width, int(self.rng.integers(2, 6))))
            z += width
        for near, far, floors in reversed(houses):
            ends = [(x, near), (x, far)] if side == 0 else [(x, far), (x, near)]
            self.front(ends, far - near, floors, 0.6 * near + 0.4 * far, (1 - 2 * side, 0, 0))


@cache
def _grain() -> NDArray[np.float32]:
    """A repeatable tile of fine and coarse noise, about ±0.15; the same in every scene."""
    rng = np.random.default_rng(0)
    tile = rng.normal(0, 0.045, (TILE, TILE)).astype(np.float32)
    for cells, strength in ((64, 0.035), (16, 0.04), (4, 0.04)):
        coarse = np.pad(rng.normal(0, strength, (cells, cells)).astype(np.float32), ((0, 1), (0, 1)), mode="wrap")
        tile += cv2.resize(coarse, (TILE + TILE // cells,) * 2, interpolation=cv2.INTER_CUBIC)[:TILE, :TILE]
    return tile
