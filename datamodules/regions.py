"""The people of a record as regions to anonymize: the same for training and for an anonymized copy."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from faster_coco_eval.core import mask as mask_api

from anonymization.regions import Regions, body_regions, face_regions, person_seed
from datamodules.record import Record
from errors import UserError


def record_regions(record: Record, region: str, seed: int) -> Regions:
    """The regions of a record's image as it is, without augmentation. People whose mask has no pixel count as dropped.

    Args:
        record: read with the people of ``region``.
        region: ``body`` or ``face``.
        seed: of the run.

    Raises:
        UserError: a face box lies outside the image.
        ValueError: the people do not fit the image; see `body_regions`.
    """
    masks = (mask_api.decode(mask) for _, mask in record.bodies)
    regions = make_regions(record, region, seed, record.size, masks, face_boxes(record), record.keypoints)
    nowhere = sum(mask_api.area(mask) == 0 for _, mask in record.bodies) if region == "body" else 0
    return replace(regions, dropped=regions.dropped + int(nowhere))


def face_boxes(record: Record) -> np.ndarray:
    """A record's face boxes clipped to its image: float32 [N, 4], x0, y0, x1, y1 in pixels.

    Raises:
        UserError: a box has nothing in the image, so it is of another image, or wrong.
    """
    height, width = record.size
    given = np.array([box[:4] for _, box in record.faces], np.float32).reshape(-1, 4)
    boxes = np.clip(given, 0, [width, height, width, height]).astype(np.float32)
    for index in np.flatnonzero(~(boxes[:, 2:] > boxes[:, :2]).all(1)):  # a NaN is not larger either
        raise UserError(
            f"{record.path}: face box {given[index].tolist()} is not x0 < x1, y0 < y1 within {width} × {height} pixels"
        )
    return boxes


def make_regions(
    record: Record,
    region: str,
    seed: int,
    size: tuple[int, int],
    masks: Iterable[np.ndarray],
    faces: np.ndarray,
    keypoints: Mapping[int, np.ndarray],
) -> Regions:
    """The regions of a record's people wherever augmentation has moved them.

    Args:
        record: whose people they are.
        region: ``body`` or ``face``.
        seed: of the run.
        size: height and width of the augmented image.
        masks: uint8 [H, W], one for each of ``record.bodies``; may be a generator.
        faces: float32 [N, 4], one for each of ``record.faces``, clipped to the augmented image. Those without an
            area have left it and are passed over.
        keypoints: as ``record.keypoints``, in the augmented image.

    Raises:
        ValueError: see `body_regions` and `face_regions`.
    """
    if region == "body":
        ids = [id_ for id_, _ in record.bodies]
        return body_regions(masks, size, *_about(record, seed, ids, keypoints))
    kept = ~(faces[:, 2:] <= faces[:, :2]).any(1)  # a NaN is kept, and refused below
    ids = [id_ for (id_, _), keep in zip(record.faces, kept, strict=True) if keep]
    return face_regions(faces[kept], size, *_about(record, seed, ids, keypoints))


def _about(
    record: Record, seed: int, ids: list[int], keypoints: Mapping[int, np.ndarray]
) -> tuple[list[int], list[np.ndarray | None]]:
    """The seeds and keypoints of people."""
    return [person_seed(seed, record.image_id, id_) for id_ in ids], [keypoints.get(id_) for id_ in ids]
