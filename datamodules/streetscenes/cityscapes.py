"""Writes scenes in the layout of Cityscapes (Cordts et al. 2016), with the authors' face and keypoint files.

Besides ``leftImg8bit`` and ``gtFine`` the root holds ``face_boxes_{train,val}.json`` and
``annotated_keypoints_train.json`` in the layouts that Hukkelås & Lindseth (2023) publish for Cityscapes.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .scene import INSTANCE_LABELS, Scene

CITIES = {
    "train": ("birkenfurt", "hollerstadt", "marienlohe", "ostwinkel"),
    "val": ("grauenbach", "silberhafen"),
}
FRAME = "000019"  # Cityscapes labels the 20th frame of each snippet
LABEL_IDS = {
    "static": 4, "dynamic": 5, "road": 7, "sidewalk": 8, "building": 11, "pole": 17, "traffic light": 19,
    "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26,
    "truck": 27, "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
}  # fmt: skip  # cityscapesscripts.helpers.labels
SCORES = np.array([0.0, 0.5, 1.0])  # of a joint that is not labelled, hidden, visible


def image_id(split: str, index: int) -> str:
    """Name of an image without its ending."""
    cities = CITIES[split]
    return f"{cities[index % len(cities)]}_{index // len(cities):06d}_{FRAME}"


def write_scene(root: Path, split: str, index: int, scene: Scene) -> dict[str, Any]:
    """Write the image and its ground truth; returns what the files of the whole split need."""
    name = image_id(split, index)
    city = name.split("_")[0]
    images, truth = root / "leftImg8bit" / split / city, root / "gtFine" / split / city
    for folder in (images, truth):
        folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.image).save(images / f"{name}_leftImg8bit.png", compress_level=1)
    height, width = scene.image.shape[:2]
    objects = [{"label": o.label, "polygon": o.outline.tolist()} for o in scene.objects]
    polygons = {"imgHeight": height, "imgWidth": width, "objects": objects}
    (truth / f"{name}_gtFine_polygons.json").write_text(json.dumps(polygons))
    for kind, numbers in zip(("labelIds", "instanceIds"), _label_images(scene), strict=True):
        Image.fromarray(numbers).save(truth / f"{name}_gtFine_{kind}.png", compress_level=1)
    people = [o for o in scene.objects if o.label in ("person", "persongroup")]
    return {
        "id": name,
        "faces": [[*_rounded(o.face), 1.0] for o in people if o.face],
        # The authors' order is detectron2's: the last drawn, who is the nearest, first.
        "keypoints": [scored(o.keypoints) for o in reversed(people)],
    }


def write_split(root: Path, split: str, records: list[dict[str, Any]]) -> None:
    """Write the face boxes of a split, and the keypoints of the training split."""
    faces = {record["id"]: record["faces"] for record in records}
    (root / f"face_boxes_{split}.json").write_text(json.dumps(faces))
    if split == "train":
        keypoints = {record["id"]: record["keypoints"] for record in records}
        (root / "annotated_keypoints_train.json").write_text(json.dumps(keypoints))


def _label_images(scene: Scene) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Class and instance numbers (h, w), by the rules of cityscapesscripts.preparation."""
    labels, instances = [], []
    seen = dict.fromkeys(INSTANCE_LABELS, 0)
    for item in scene.objects:
        label = item.label.removesuffix("group")
        labels.append(LABEL_IDS[label])
        if label in seen and not item.group:
            instances.append(LABEL_IDS[label] * 1000 + seen[label])
            seen[label] += 1
        else:
            instances.append(LABEL_IDS[label])
    return np.array(labels, np.uint8)[scene.owners], np.array(instances, np.uint16)[scene.owners]


def _rounded(values: tuple[float, ...]) -> list[float]:
    return [round(float(v), 2) for v in values]


def scored(keypoints: NDArray[np.float64] | None) -> list[list[float]]:
    """Joints as x, y, score; all zero for crowds and the smallest people."""
    if keypoints is None:
        return [[0.0, 0.0, 0.0]] * 17
    return [[*_rounded((x, y)), float(SCORES[int(v)])] for x, y, v in keypoints]
