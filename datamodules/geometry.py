"""Geometric augmentation of an image together with everything that lies in it.

Runs in the loader's workers, before anonymization. A change of colour there would change what is
anonymized, so only albumentations transforms that move pixels are accepted.
"""

import warnings
from typing import Any

import albumentations as A
import cv2
import numpy as np

from errors import UserError, nearest

TRANSFORMS = {
    *("Affine", "CenterCrop", "Crop", "D4", "HorizontalFlip", "LongestMaxSize", "Pad", "PadIfNeeded", "Perspective"),
    *("RandomCrop", "RandomResizedCrop", "RandomRotate90", "RandomScale", "Resize", "Rotate", "SafeRotate"),
    *("ShiftScaleRotate", "SmallestMaxSize", "Transpose", "VerticalFlip"),
}

# COCO's 17 keypoints: which one each becomes in a mirror (left and right change places).
MIRRORED = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]


class Geometry:
    """Chain of albumentations transforms named in a config.

    Args:
        transforms: ``[{name: {argument: value}}, ...]``, names from `TRANSFORMS`.

    Raises:
        UserError: for a name that is not a geometric transform, or arguments that albumentations refuses.
    """

    def __init__(self, transforms: list[dict[str, Any]]) -> None:
        self._is_identity = not transforms
        self._chain = A.Compose(
            [_build(transform) for transform in transforms],
            keypoint_params=A.KeypointParams("xy", remove_invisible=False) if transforms else None,
        )

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


def _build(transform: dict[str, Any]) -> A.DualTransform:
    if len(transform) != 1:
        raise UserError(f"data.geometry: {transform} is not of the form {{NAME: {{argument: value}}}}")
    (name, arguments), *_ = transform.items()
    if name not in TRANSFORMS:
        raise UserError(f"data.geometry: '{name}' is no geometric transform{nearest(name, TRANSFORMS)}")
    if (mode := (arguments or {}).get("border_mode", cv2.BORDER_CONSTANT)) != cv2.BORDER_CONSTANT:
        raise UserError(
            f"data.geometry: {name}: border_mode {mode} repeats parts of the image beyond its edges, people among "
            f"them, of whom no mask or box tells; only {cv2.BORDER_CONSTANT}, a constant, is possible"
        )
    masks = {"mask_interpolation": cv2.INTER_NEAREST} if name in ("Affine", "Perspective", "Rotate") else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # albumentations only warns of an argument that it does not know
            return getattr(A, name)(**masks, **(arguments or {}))
    except (TypeError, ValueError, UserWarning) as error:
        raise UserError(f"data.geometry: {name}: {error}") from None
