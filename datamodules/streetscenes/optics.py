"""The camera that looks along the street, and the light it sees by."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .canvas import Colour, mix, shade
from .chance import weighted

VIGNETTE = np.float32(0.09)  # light lost at the middle of an edge
_LEVELS = np.arange(256.0)[:, None] + 0.5  # half a level rounds


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera; the world's axes are right, up and forward, in metres, on the ground below it.

    Attributes:
        size: height and width of the picture in pixels.
        focal: focal length in pixels.
        centre: column of the principal point in pixels.
        horizon: row of the horizon in pixels.
        height: height above the ground in metres.
    """

    size: tuple[int, int]
    focal: float
    centre: float
    horizon: float
    height: float

    def project(self, points: ArrayLike) -> NDArray[np.float64]:
        """Project world points (n, 3), all in front of the camera, to picture pixels (n, 2)."""
        points = np.asarray(points, float)
        eye, focal, centre = self._arrays
        return (points[:, :2] - eye) / points[:, 2:] * focal + centre

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.float64], ...]:
        return (
            np.array([0.0, self.height]),
            np.array([self.focal, -self.focal]),
            np.array([self.centre, self.horizon]),
        )

    def ground(self, outline: ArrayLike) -> NDArray[np.float64]:
        """Project ground points (n, 2) of right and forward to picture pixels (n, 2)."""
        return self.project([(x, 0.0, z) for x, z in outline])


@dataclass(frozen=True)
class Stance:
    """Where an upright object stands in the picture and which way it faces; its depth is small against its distance.

    Attributes:
        origin: its foot point in picture pixels.
        scale: picture pixels per metre there.
        yaw: 0 faces the camera, pi / 2 faces to the right of the picture.
        tilt: share of depth seen as height, because the camera looks down on it a little.
    """

    origin: tuple[float, float]
    scale: float
    yaw: float
    tilt: float = 0.08

    def project(self, points: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Project object points (n, 3) of forward, left, up in metres to pixels (n, 2) and nearness (n,)."""
        turned = np.asarray(points, float) @ self._turn
        return turned[:, :2] + self.origin, turned[:, 2]

    @cached_property
    def _turn(self) -> NDArray[np.float64]:
        c, s, k, t = math.cos(self.yaw), math.sin(self.yaw), self.scale, self.tilt
        return np.array([[k * s, k * t * c, c], [k * c, -k * t * s, -s], [0.0, -k, 0.0]])

    def __call__(self, points: ArrayLike) -> NDArray[np.float64]:
        """Picture pixels (n, 2) of object points (n, 3)."""
        return self.project(points)[0]


@dataclass(frozen=True)
class Light:
    """Daylight of a scene.

    Attributes:
        sun: unit vector towards the sun (right, up, forward).
        strength: 0 is an overcast sky without shadows, 1 full sun.
        tint: factor on red, green and blue of the whole picture.
        sky: colours at the zenith and at the horizon.
        haze: metres after which 63 % of an object's colour has turned into the horizon's.
        dusk: lamps and windows are lit.
    """

    sun: tuple[float, float, float]
    strength: float
    tint: tuple[float, float, float]
    sky: tuple[Colour, Colour]
    haze: float
    dusk: bool

    @property
    def side(self) -> float:
        """Sign and strength of the light from the right, in [-1, 1]."""
        return float(np.sign(self.sun[0])) * (0.35 + 0.65 * self.strength)

    def on(self, colour: Colour, normal: Sequence[float]) -> Colour:
        """Colour of a matt surface with the unit normal ``normal``."""
        x, y, z = normal
        lambert = max(0.0, self.sun[0] * x + self.sun[1] * y + self.sun[2] * z)
        return shade(colour, 0.76 + 0.07 * (1 + y) + self.strength * 0.34 * lambert)

    def through_haze(self, colours: NDArray[np.uint8], distance: float) -> NDArray[np.uint8]:
        """Colours (..., 3) seen from ``distance`` metres."""
        share = 1 - math.exp(-distance / self.haze)
        table = _LEVELS * (1 - share) + np.asarray(self.sky[1]) * share
        return cv2.LUT(colours, table.astype(np.uint8)[None])

    def hazy(self, colour: Colour, distance: float) -> Colour:
        """One colour seen from ``distance`` metres."""
        return mix(colour, self.sky[1], 1 - math.exp(-distance / self.haze))


def random_light(rng: np.random.Generator) -> Light:
    """Sun, thin cloud, overcast or dusk."""
    azimuth = rng.uniform(0, 2 * np.pi)
    elevation = rng.uniform(0.5, 1.1)
    kind = weighted(rng, {"sun": 0.4, "thin cloud": 0.22, "overcast": 0.23, "dusk": 0.15})
    if kind == "dusk":
        elevation = rng.uniform(0.15, 0.35)
    sun = (
        float(np.cos(elevation) * np.cos(azimuth)),
        float(np.sin(elevation)),
        float(np.cos(elevation) * np.sin(azimuth)),
    )
    haze = float(rng.uniform(60, 220))
    match kind:
        case "sun":
            return Light(sun, 1.0, (1.05, 1.01, 0.95), ((86, 140, 205), (196, 218, 236)), haze * 1.5, False)
        case "thin cloud":
            return Light(sun, 0.55, (1.0, 1.0, 1.0), ((128, 164, 200), (214, 222, 228)), haze, False)
        case "overcast":
            return Light(sun, 0.0, (0.92, 0.96, 1.0), ((166, 174, 184), (208, 212, 216)), haze * 0.8, False)
        case _:
            return Light(sun, 0.3, (0.86, 0.76, 0.78), ((74, 84, 130), (236, 178, 138)), haze, True)


def develop(image: NDArray[np.uint8], light: Light, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Take the photograph: tint, exposure, vignette, lens blur and sensor noise on an (h, w, 3) picture."""
    height, width = image.shape[:2]
    exposure = rng.uniform(0.92, 1.18)
    blur = rng.uniform(0.25, 0.6)
    noise = rng.uniform(1.0, 4.0)
    picture = cv2.multiply(image, (*(exposure * factor for factor in light.tint), 0.0), dtype=cv2.CV_32F)
    picture = cv2.GaussianBlur(picture, (5, 5), blur)
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    vignette = 1 - VIGNETTE * (x[None] ** 2 + y[:, None] ** 2)
    picture *= cv2.merge([vignette] * 3)
    grain = rng.standard_normal(picture.shape, np.float32) * np.float32(noise)
    return cv2.add(picture, grain, dtype=cv2.CV_8U)
