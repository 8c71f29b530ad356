"""The keypoints that Hukkelås & Lindseth (2023) publish for people of datasets without any."""

from pathlib import Path

import numpy as np

from datamodules.files import naming, read_json
from datamodules.record import Record
from errors import UserError

MIN_SCORE = 0.3  # of a visible keypoint (Hukkelås & Lindseth 2023)


def read_keypoints(path: Path, people: dict[str, list[int]]) -> dict[str, dict[int, np.ndarray]]:
    """Read ``annotated_keypoints_train.json`` of Cityscapes or BDD100K.

    Args:
        path: the file, {image id: [[17 × (x, y, score)], ...]} or {image id: {"keypoints": [...]}}.
        people: image id -> ids of the instances that the image's entries are of, in their order: see
            `cityscapes_people`; for BDD100K those of ``Record.bodies``.

    Returns:
        Image id -> instance id -> float32 [17, 3]: x and y in pixels, 1 where visible and else 0. An image that the
        file does not have has no keypoints.

    Raises:
        UserError: if the file is missing, of another form, or has more or fewer entries for an image than people.
    """
    content = read_json(path, "it holds the keypoints of the people")
    if not isinstance(content, dict):
        raise UserError(f"{path}: not of the form {{image id: [[17 × (x, y, score)], ...]}}")
    keypoints = {}
    for key, entry in content.items():
        image = key.removesuffix("_leftImg8bit.png")
        with naming(path, f"image {key}"):
            rows = entry["keypoints"] if isinstance(entry, dict) else entry
            joints = np.array(rows, np.float32).reshape(len(rows), 17, 3)
            joints[..., 2] = joints[..., 2] >= MIN_SCORE
            if image in people:
                if len(joints) != len(people[image]):
                    raise ValueError(f"keypoints of {len(joints)} people, the image has {len(people[image])}")
                keypoints[image] = dict(zip(people[image], joints, strict=True))
    return keypoints


def cityscapes_people(record: Record, person: int) -> list[int]:
    """List the people of an image as Cityscapes' keypoints count them: groups too, the nearest first.

    That is the order of detectron2's ``load_cityscapes_instances``, which the authors go through: it takes the
    objects of the polygon file from the last to the first and leaves out those that are hidden altogether.

    Args:
        record: of the Cityscapes reader, with all its classes.
        person: the label.
    """
    return sorted((i.id for i in record.instances if i.label == person), reverse=True)
