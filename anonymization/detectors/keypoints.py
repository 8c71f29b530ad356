"""A face box from annotated COCO keypoints, for datasets that have them: no image is looked at."""

import numpy as np

# Nose, eyes and ears of COCO's 17 keypoints in millimetres: right, up, forward of the tip of the nose. Rough adult
# proportions: pupils 64 mm apart, ears 146 mm apart and 105 mm behind the nose.
FACE_MM = np.array([(0, 0, 0), (-32, 45, -35), (32, 45, -35), (-73, 35, -105), (73, 35, -105)], np.float32)
SIDE_MM = 170  # about from the hairline to the chin
_DISTANCES_MM = np.linalg.norm(FACE_MM[:, None] - FACE_MM, axis=-1)
_NOSE_AND_EYES = slice(0, 3)
VISIBLE = 2  # COCO's visibility: 0 not labelled, 1 labelled but hidden, 2 visible


def face_box(keypoints: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """Make the square around a person's face.

    A picture of two points is shorter than their distance unless they lie across the line of sight, so the scale is the
    largest that any two labelled points give. The centre is that of the box around the labelled points: between the
    ears and half-way down from eyes to nose of a face seen from the front, between nose and ear of a profile. The box
    is a square because the head may be tilted.

    Args:
        keypoints: float [17, 3], x, y in image pixels and COCO's visibility.
        size: height and width of the image.

    Returns:
        float32 [4], x0, y0, x1, y1 inside the image; None where neither the nose nor an eye is visible, where fewer
        than two of the five points are labelled (no scale), or where the box has no area in the image.
    """
    face = keypoints[: len(FACE_MM)]
    labelled = face[:, 2] > 0
    if labelled.sum() < 2 or not (face[_NOSE_AND_EYES, 2] == VISIBLE).any():
        return None
    points = face[labelled, :2]
    between = np.triu_indices(len(points), k=1)
    pixels = np.linalg.norm(points[:, None] - points, axis=-1)[between]
    half = (pixels / _DISTANCES_MM[np.ix_(labelled, labelled)][between]).max() * SIDE_MM / 2
    centre = (points.min(0) + points.max(0)) / 2
    height, width = size
    box = np.clip([*(centre - half), *(centre + half)], 0, [width, height, width, height]).astype(np.float32)
    return box if (box[2:] > box[:2]).all() else None
