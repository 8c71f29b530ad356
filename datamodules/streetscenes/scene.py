"""One street scene: the photograph, and who and what is in it."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .canvas import SUPERSAMPLING, Sheet
from .optics import Camera, Light, develop, random_light
from .people import Anatomy
from .placing import PEOPLE, Part, Unit, populate
from .shadows import cast_shadows
from .street import draw_backdrop, random_street

SPLITS = ("train", "val")
INSTANCE_LABELS = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")

SMALLEST_AREA = 10 / (160 * 320)  # of the picture, that an object must show to be drawn at all
LEAST_VISIBLE = 0.18  # share of itself that an object must show
SMALLEST_WITH_JOINTS = 16 / 160  # of the picture's height; smaller people get no keypoints
SMALLEST_FACE = 4 / 160  # of the picture's height
FACE_VISIBLE = 0.6  # share of the face box that must show the person


@dataclass(frozen=True)
class SceneObject:
    """One labelled object or piece of the background.

    Attributes:
        label: its Cityscapes label; crowds end in ``group``.
        outline: its whole silhouette as integer vertices (n, 2); nearer objects cover it.
        keypoints: (17, 3) of x, y and COCO visibility; None if it is not one person.
        face: x0, y0, x1, y1 of the visible face; None if there is none.
    """

    label: str
    outline: NDArray[np.int32]
    keypoints: NDArray[np.float64] | None = None
    face: tuple[float, float, float, float] | None = None

    @property
    def group(self) -> bool:
        """Whether it is a crowd."""
        return self.label.endswith("group")

    @property
    def countable(self) -> bool:
        """Whether it is an instance or a crowd of instances, not background."""
        return self.label.removesuffix("group") in INSTANCE_LABELS


@dataclass(frozen=True)
class Scene:
    """A scene.

    Attributes:
        image: (h, w, 3) uint8, RGB.
        objects: in painter's order, background first.
        owners: (h, w) int32, index of the object that each pixel shows.
    """

    image: NDArray[np.uint8]
    objects: list[SceneObject]
    owners: NDArray[np.int32]

    def visible(self, index: int) -> NDArray[np.bool_]:
        """Mask (h, w) of the pixels that show object ``index``."""
        return self.owners == index


@dataclass
class _Cutout:
    """An object on its own, cropped: sheet pixels, and its outline filled at the picture's resolution."""

    part: Part
    pixels: NDArray[np.uint8]
    corner: tuple[int, int]
    outline: NDArray[np.int32]
    filled: NDArray[np.bool_]
    anatomy: Anatomy | None

    @property
    def window(self) -> tuple[slice, slice]:
        """Where it lies in the picture."""
        (x, y), (h, w) = self.corner, self.filled.shape
        return slice(y, y + h), slice(x, x + w)

    @property
    def opaque(self) -> NDArray[np.bool_]:
        """(h, w) mask of the picture pixels it touches."""
        return _touched(self.pixels)


def draw_scene(seed: int, split: str, index: int, size: tuple[int, int], people: bool = True) -> Scene:
    """Draw scene ``index`` of a split; the same arguments give the same scene, bit by bit.

    Args:
        seed: seed of the whole set.
        split: ``train`` or ``val``.
        index: number within the split.
        size: height and width in pixels. Another size shows the same scene.
        people: whether anybody is about.
    """
    stream = [seed, SPLITS.index(split), index]
    plan_rng, street_rng, film_rng = (np.random.default_rng([*stream, purpose]) for purpose in range(3))
    light, street = random_light(plan_rng), random_street(plan_rng)
    camera = random_camera(plan_rng, size)
    kept = _visible_units(populate(street, camera, light, [*stream, 3], people), light, size)
    shadow = cast_shadows([unit for unit, _ in kept], street, camera, light)
    backdrop, labels = draw_backdrop(street, camera, light, shadow, street_rng)
    objects = [SceneObject(label, outline) for label, outline in labels]
    for _, cutouts in reversed(kept):
        for cutout in cutouts:
            _paste(backdrop, cutout)
    owners = _owners([o.outline for o in objects] + [c.outline for _, cutouts in reversed(kept) for c in cutouts], size)
    for _, cutouts in reversed(kept):
        for cutout in cutouts:
            objects.append(_described(cutout, len(objects), owners))
    height, width = size
    image = cv2.resize(backdrop.pixels[..., :3], (width, height), interpolation=cv2.INTER_AREA)
    return Scene(develop(image, light, film_rng), objects, owners)


def random_camera(rng: np.random.Generator, size: tuple[int, int]) -> Camera:
    """A dashboard camera; its focal length is about the picture's height."""
    height, width = size
    return Camera(
        size,
        height * float(rng.uniform(0.95, 1.12)),
        width * float(rng.uniform(0.4, 0.6)),
        height * float(rng.uniform(0.36, 0.46)),
        float(rng.uniform(1.3, 2.1)),
    )


def _visible_units(units: list[Unit], light: Light, size: tuple[int, int]) -> list[tuple[Unit, list[_Cutout]]]:
    """Draw the units, nearest first, and leave out those whose parts nearer ones all but hide."""
    covered = np.zeros(size, bool)  # by outlines
    opaque = np.zeros(size, bool)  # by paint
    kept = []
    for unit in units:
        cutouts: list[_Cutout] = []
        own_covered, own_opaque = covered.copy(), opaque.copy()
        for part in reversed(unit.parts):
            cutout = _cut_out(part, size)
            if cutout is None or not (unit.scenery or _shows(cutout, own_covered)):
                break
            if not unit.scenery:
                cutout.pixels[..., :3] = light.through_haze(cutout.pixels[..., :3], unit.distance)
            window = cutout.window
            if part.label in PEOPLE:
                # Seen through a wheel or a bent arm, a person would show inside another object's outline.
                _erase(cutout, own_covered[window] & ~own_opaque[window])
            own_covered[window] |= cutout.filled
            own_opaque[window] |= cutout.opaque
            cutouts.insert(0, cutout)
        if len(cutouts) == len(unit.parts):
            covered, opaque = own_covered, own_opaque
            kept.append((unit, cutouts))
    return kept


def _shows(cutout: _Cutout, covered: NDArray[np.bool_]) -> bool:
    visible = np.count_nonzero(cutout.filled & ~covered[cutout.window])
    return visible >= max(SMALLEST_AREA * covered.size, LEAST_VISIBLE * np.count_nonzero(cutout.filled))


def _cut_out(part: Part, size: tuple[int, int]) -> _Cutout | None:
    """Draw one object and reduce it to its largest connected piece, which one polygon can outline."""
    sheet = Sheet(size)
    anatomy = part.draw(sheet)
    drawn = np.ascontiguousarray(sheet.pixels[..., 3])
    x, y, w, h = cv2.boundingRect(drawn)
    if w == 0:
        return None
    s = SUPERSAMPLING
    x0, y0, x1, y1 = x // s, y // s, -(-(x + w) // s), -(-(y + h) // s)
    pixels = sheet.pixels[y0 * s : y1 * s, x0 * s : x1 * s].copy()
    contours, _ = cv2.findContours(_touched(pixels).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    largest = max(contours, key=cv2.contourArea).reshape(-1, 2)
    if len(largest) < 3:
        return None
    filled = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(filled, [largest], 1)
    cutout = _Cutout(part, pixels, (x0, y0), largest + np.array([x0, y0]), filled > 0, anatomy)
    _erase(cutout, ~cutout.filled)
    return cutout


def _touched(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Picture pixels of which at least one sheet pixel is drawn."""
    part = pixels[..., 3]
    upper, lower = part[0::2], part[1::2]
    return (upper[:, 0::2] | upper[:, 1::2] | lower[:, 0::2] | lower[:, 1::2]) > 0


def _erase(cutout: _Cutout, where: NDArray[np.bool_]) -> None:
    """Make a cutout transparent at picture pixels ``where``."""
    cutout.pixels[where.repeat(SUPERSAMPLING, axis=0).repeat(SUPERSAMPLING, axis=1), 3] = 0


def _paste(backdrop: Sheet, cutout: _Cutout) -> None:
    rows, columns = (slice(part.start * SUPERSAMPLING, part.stop * SUPERSAMPLING) for part in cutout.window)
    cv2.copyTo(cutout.pixels, cutout.pixels[..., 3].copy(), backdrop.pixels[rows, columns])


def _owners(outlines: list[NDArray[np.int32]], size: tuple[int, int]) -> NDArray[np.int32]:
    """Which outline shows at each pixel, painted as cityscapesscripts paints its label images."""
    canvas = Image.new("I", (size[1], size[0]), -1)
    drawer = ImageDraw.Draw(canvas)
    for index, outline in enumerate(outlines):
        drawer.polygon([(int(x), int(y)) for x, y in outline], fill=index)
    return np.array(canvas, np.int32)


def _described(cutout: _Cutout, index: int, owners: NDArray[np.int32]) -> SceneObject:
    """The object with its joints and face, after what covers it is known."""
    label, anatomy = cutout.part.label, cutout.anatomy
    if anatomy is None:
        return SceneObject(label, cutout.outline)
    visible = owners == index
    keypoints = np.zeros_like(anatomy.keypoints)
    if cutout.part.stature >= SMALLEST_WITH_JOINTS * owners.shape[0]:
        keypoints = _seen_keypoints(anatomy.keypoints, visible)
    return SceneObject(label, cutout.outline, keypoints, _seen_face(anatomy, visible))


def _seen_keypoints(keypoints: NDArray[np.float64], visible: NDArray[np.bool_]) -> NDArray[np.float64]:
    right, low = visible.shape[1] - 0.1, visible.shape[0] - 0.1  # files give tenths: beyond, they would say outside
    seen = np.zeros_like(keypoints)
    for row, (x, y, own) in enumerate(keypoints):
        if 0 <= x <= right and 0 <= y <= low:
            seen[row] = x, y, own if visible[int(y), int(x)] else 1
    return seen


def _seen_face(anatomy: Anatomy, visible: NDArray[np.bool_]) -> tuple[float, float, float, float] | None:
    """The face box cut to the person's visible pixels, if enough of the face is seen."""
    if anatomy.face is None:
        return None
    height, width = visible.shape
    x0, y0, x1, y1 = anatomy.face
    left, top = max(0, int(x0)), max(0, int(y0))
    right, low = min(width, int(np.ceil(x1))), min(height, int(np.ceil(y1)))
    inside = visible[top:low, left:right]
    whole = (np.ceil(x1) - int(x0)) * (np.ceil(y1) - int(y0))
    if y1 - y0 < SMALLEST_FACE * height or np.count_nonzero(inside) < FACE_VISIBLE * whole:
        return None
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return (
        float(max(x0, left + columns[0])),
        float(max(y0, top + rows[0])),
        float(min(x1, left + columns[-1] + 1)),
        float(min(y1, top + rows[-1] + 1)),
    )
