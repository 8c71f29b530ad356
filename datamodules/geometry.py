"""Geometric augmentation of an image together with everything that lies in it.

Runs in the loader's workers, before anonymization. A change of colour there would change what is
anonymized, so only albumentations transforms that move pixels are accepted.
"""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import albumentations as A
import cv2
import numpy as np
from albumentations.augmentations.crops.transforms import CropSizeError

from errors import UserError, nearest

TRANSFORMS = {
    *("Affine", "CenterCrop", "Crop", "D4", "HorizontalFlip", "LongestMaxSize", "Pad", "PadIfNeeded", "Perspective"),
    *("RandomCrop", "RandomResizedCrop", "RandomRotate90", "RandomScale", "Resize", "Rotate", "SafeRotate"),
    *("SmallestMaxSize", "Transpose", "VerticalFlip"),
}

# These move whole pixels; the others mix neighbours.
EXACT = {
    *("CenterCrop", "Crop", "D4", "HorizontalFlip", "Pad", "PadIfNeeded", "RandomCrop", "RandomRotate90"),
    *("Transpose", "VerticalFlip"),
}
# Others have negative weights, which 8 bits do not keep, so that nobody could tell how far a pixel reaches.
INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_LINEAR_EXACT, cv2.INTER_NEAREST_EXACT)

# COCO's 17 keypoints: which one each becomes in a mirror (left and right change places).
MIRRORED = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]


class Geometry:
    """Chain of albumentations transforms named in a config.

    Args:
        transforms: ``[{name: {argument: value}}, ...]``, names from `TRANSFORMS`.

    Attributes:
        is_exact: whether every pixel of a moved image is one of the image, and of no mixture.

    Raises:
        UserError: for a name that is not a geometric transform, or arguments that albumentations refuses.
    """

    def __init__(self, transforms: list[dict[str, Any]]) -> None:
        self._is_identity = not transforms
        self._crops = any("Crop" in name for transform in transforms for name in transform)
        self._chain = A.Compose(
            [_build(transform) for transform in transforms],
            keypoint_params=A.KeypointParams("xy", remove_invisible=False) if transforms else None,
        )
        self.is_exact = all(name in EXACT for transform in transforms for name in transform)
        unfilled = [
            {n: {k: 0 if k == "fill" else v for k, v in (given or {}).items()} for n, given in t.items()}
            for t in transforms
        ]
        self._people_chain = self._chain if self.is_exact else A.Compose([_build(t) for t in unfilled])

    def __call__(
        self, seed: int, image: np.ndarray, masks: np.ndarray, points: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
        """Move an image, its masks and points in the same way.

        Args:
            seed: fixes what is drawn.
            image: uint8 [H, W, 3].
            masks: uint8 [N, H, W].
            points: float [P, 2], x and y in pixels (0 is the left edge of the leftmost pixel).

        Returns:
            The three, in the new frame (points may lie outside it), and whether left and right changed places.
        """
        if self._is_identity:
            return image, masks, points, False
        height, width = image.shape[:2]
        # Three corners tell whether the map mirrors. Keypoints are pixel centres to albumentations.
        corners = np.array([[0, 0], [width, 0], [0, height]], np.float32)
        moved_points = np.concatenate([corners, points.reshape(-1, 2)]).astype(np.float32) - 0.5
        self._chain.set_random_seed(seed)
        result = self._chain(image=image, masks=list(masks), keypoints=moved_points)
        moved = np.asarray(result["keypoints"], np.float32).reshape(-1, 2) + 0.5
        (ax, ay), (bx, by) = moved[1] - moved[0], moved[2] - moved[0]
        moved_masks = np.stack(result["masks"]) if len(masks) else np.zeros((0, *result["image"].shape[:2]), np.uint8)
        return result["image"], moved_masks, moved[3:], bool(ax * by - ay * bx < 0)

    def check(self, sizes: Iterable[tuple[int, int]]) -> None:
        """Try whether images of such sizes (height, width) can be moved, before a training comes to one that cannot.

        Raises:
            UserError: one cannot: it is smaller than a crop.
        """
        for height, width in sorted(set(sizes)) if self._crops else ():
            try:
                self._people_chain(image=np.zeros((height, width, 3), np.uint8))
            except (CropSizeError, ValueError) as error:
                raise UserError(
                    f"data.geometry: {error}, with an image of {height} × {width}; choose a smaller crop, or enlarge "
                    "or pad images before it"
                ) from None

    def reached(self, seed: int, masks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Move masks to wherever a moved image has something of the masks' pixels.

        The masks of a call are for training: they go to the nearest pixel, beside which an image may still have some
        of the person. These are moved as an image is, and hold every pixel that it mixes them into.

        Args:
            seed: of the image's call.
            masks: uint8 [H, W], of the image's size; may be a generator.

        Yields:
            uint8 [h, w] each.
        """
        for mask in masks:
            self._people_chain.set_random_seed(seed)
            white = cv2.merge([mask.astype(np.float32)] * 3)  # in floats, which keep the smallest share
            yield (self._people_chain(image=white)["image"].max(-1) > 0).view(np.uint8)


def _build(transform: dict[str, Any]) -> A.DualTransform:
    if len(transform) != 1:
        raise UserError(f"data.geometry: {transform} is not of the form {{NAME: {{argument: value}}}}")
    (name, arguments), *_ = transform.items()
    if name not in TRANSFORMS:
        raise UserError(f"data.geometry: '{name}' is no geometric transform{nearest(name, TRANSFORMS)}")
    if not isinstance(arguments or {}, dict):
        raise UserError(f"data.geometry: {transform} is not of the form {{NAME: {{argument: value}}}}")
    if (mode := (arguments or {}).get("border_mode", cv2.BORDER_CONSTANT)) != cv2.BORDER_CONSTANT:
        raise UserError(
            f"data.geometry: {name}: border_mode {mode} repeats parts of the image beyond its edges, people among "
            f"them, of whom no mask or box tells; only {cv2.BORDER_CONSTANT}, a constant, is possible"
        )
    if (how := (arguments or {}).get("interpolation", cv2.INTER_LINEAR)) not in INTERPOLATIONS:
        raise UserError(
            f"data.geometry: {name}: interpolation {how} has negative weights, so that nobody could tell which pixels "
            f"have something of a person; choose from {', '.join(map(str, INTERPOLATIONS))}"
        )
    masks = {"mask_interpolation": cv2.INTER_NEAREST} if name in ("Affine", "Perspective", "Rotate") else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # albumentations only warns of an argument that it does not know
            return getattr(A, name)(**masks, **(arguments or {}))
    except (TypeError, ValueError, UserWarning) as error:
        raise UserError(f"data.geometry: {name}: {error}") from None
