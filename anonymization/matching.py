"""Which detected face belongs to which person: one to one, by overlap with the person's mask."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as mask_api

MIN_IOU = 0.01  # of a face box and a person's mask, exclusive (Hukkelås & Lindseth 2023)


def match_faces(faces: np.ndarray, people: Sequence[dict[str, Any]]) -> list[tuple[int, int]]:
    """Pair faces and people greedily: largest IoU first, then best score, then the person with fewest choices.

    Args:
        faces: float [N, 5], x0, y0, x1, y1 in image pixels and a score.
        people: a COCO run-length encoding of each person's mask, all of the image's size.

    Returns:
        (face, person) indices in the order in which they were paired.
    """
    if not len(faces) or not people:
        return []
    iou = face_person_iou(faces[:, :4], people)
    face, person = np.nonzero(iou > MIN_IOU)
    choices = np.bincount(person, minlength=len(people))
    pairs = []
    for place in np.lexsort((choices[person], -faces[face, 4], -iou[face, person])):
        pair = int(face[place]), int(person[place])
        if all(pair[0] != f and pair[1] != p for f, p in pairs):
            pairs.append(pair)
    return pairs


def face_person_iou(boxes: np.ndarray, people: Sequence[dict[str, Any]]) -> np.ndarray:
    """IoU of the pixels of boxes and the pixels of masks, without decoding a mask.

    A box covers the pixels from its corners rounded down, the second excluded, as in Hukkelås & Lindseth 2023.

    Args:
        boxes: float [N, 4], x0, y0, x1, y1 in image pixels; what lies outside the image does not count.
        people: M COCO run-length encodings of one size.

    Returns:
        float64 [N, M]; 0 where the box covers no pixel.
    """
    height, width = people[0]["size"]
    corners = np.clip(boxes, 0, [width, height, width, height]).astype(int)
    x0, y0, x1, y1 = corners.T
    rectangles = np.stack([x0, y0, np.maximum(x1 - x0, 0), np.maximum(y1 - y0, 0)], axis=1).astype(float)
    encoded = mask_api.frPyObjects(rectangles, height, width)
    return np.asarray(mask_api.iou(encoded, list(people), [0] * len(people))).reshape(len(boxes), len(people))
