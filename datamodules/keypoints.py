"""The keypoints that Hukkelås & Lindseth (2023) publish for people of datasets without any."""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datamodules.files import image_of, naming, read_json
from datamodules.record import Record
from datamodules.values import numbers
from errors import UserError

MIN_SCORE = 0.3  # of a visible keypoint (Hukkelås & Lindseth 2023)


class Poses(NamedTuple):
    """What a file of keypoints has for the people of an image.

    Attributes:
        path: the file.
        image: what the file calls the image.
        joints: float32 [N, 17, 3]: x and y in pixels, 1 where visible and else 0.
    """

    path: Path
    image: str
    joints: np.ndarray

    def of(self, people: list[int]) -> dict[int, np.ndarray]:
        """Give each person its own: instance id -> float32 [17, 3].

        Args:
            people: ids of the instances that the file has entries for, in their order: see `cityscapes_people`; for
                BDD100K those of ``Record.bodies``.

        Raises:
            UserError: if the file has more or fewer entries for the image than people.
        """
        with naming(self.path, f"image {self.image}"):
            if len(self.joints) != len(people):
                raise ValueError(f"keypoints of {len(self.joints)} people, the image has {len(people)}")
        return dict(zip(people, self.joints, strict=True))


def read_keypoints(path: Path, image_ids: Collection[str]) -> dict[str, Poses]:
    """Read ``annotated_keypoints_train.json`` of Cityscapes or BDD100K.

    Args:
        path: the file, {image id: [[17 × (x, y, score)], ...]} or {image id: {"keypoints": [...]}}.
        image_ids: of the split's images.

    Returns:
        By image id. An image that the file does not have has no keypoints; no image has any if there is no file.

    Raises:
        UserError: if the file is of another form, or about other images.
    """
    if not path.exists():
        return {}
    content = read_json(path, "it holds the keypoints of the people")
    if not isinstance(content, dict):
        raise UserError(f"{path}: not of the form {{image id: [[17 × (x, y, score)], ...]}}")
    keypoints = {}
    for key, entry in content.items():
        image = image_of(key)
        with naming(path, f"image {key}"):
            rows = entry["keypoints"] if isinstance(entry, dict) else entry
            joints = numbers(rows).astype(np.float32).reshape(len(rows), 17, 3)
            if image in keypoints:
                raise ValueError("is there twice")
            joints[..., 2] = joints[..., 2] >= MIN_SCORE
            keypoints[image] = Poses(path, key, joints)
    if keypoints and keypoints.keys().isdisjoint(image_ids):
        raise UserError(f"{path}: none of its images is in the split")
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
