"""Shadows on the ground."""

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .optics import Camera, Light
from .placing import Unit
from .street import NEAREST, Street

CONTACT, SUN, HOUSES = 0.5, 0.42, 0.3  # share of the ground's light taken away
LONGEST = 3.5  # metres
HIGHEST_HOUSE = 8.0  # metres whose shadow is cast; a whole house's would fill most streets
SOFTNESS = 0.006  # of the picture's height
SUBPIXEL_BITS = 4


def cast_shadows(units: list[Unit], street: Street, camera: Camera, light: Light) -> NDArray[np.float32]:
    """Share of the light, in [0, 1], that reaches the ground at each pixel (h, w)."""
    taken = np.zeros(camera.size, np.uint8)
    right, up, forward = light.sun
    fall = np.array([-right, -forward]) / up  # of the shadow's tip, per metre of height
    if light.strength > 0.5:
        _darken(taken, camera, _house_shadow(street, fall), HOUSES * light.strength)
    for unit in units:
        if unit.scenery:
            continue
        left, right_edge, near, far = unit.plan
        foot = np.array([[left, near], [right_edge, near], [right_edge, far], [left, far]])
        if light.strength > 0:
            length = fall * unit.height
            length *= min(1.0, LONGEST / (float(np.hypot(*length)) or 1.0))
            narrow = foot.mean(axis=0) + (foot - foot.mean(axis=0)) * 0.8
            _darken(taken, camera, np.concatenate([narrow, narrow + length]), SUN * light.strength)
        _darken(taken, camera, foot, CONTACT)
    soft = cv2.GaussianBlur(taken, (0, 0), SOFTNESS * camera.size[0])
    return 1 - soft.astype(np.float32) / 255


def _house_shadow(street: Street, fall: NDArray[np.float64]) -> NDArray[np.float64]:
    side = 0 if fall[0] > 0 else 1
    front = street.fronts[side]
    tip = front + float(np.clip(fall[0] * HIGHEST_HOUSE, -7, 7))
    end = min(street.end, 80.0)
    return np.array([[front, NEAREST], [tip, NEAREST], [tip, end], [front, end]])


def _darken(taken: NDArray[np.uint8], camera: Camera, points: ArrayLike, share: float) -> None:
    """Take a share of the light from the convex hull of ground points (n, 2)."""
    outline = camera.ground(np.maximum(points, (-np.inf, NEAREST)))
    hull = cv2.convexHull(outline.astype(np.float32)).reshape(-1, 2)
    layer = np.zeros_like(taken)
    fixed = np.rint(hull * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillConvexPoly(layer, fixed, round(255 * share), cv2.LINE_8, SUBPIXEL_BITS)
    np.maximum(taken, layer, out=taken)
