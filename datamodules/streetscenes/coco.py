"""Writes scenes in the layout of COCO 2017 (Lin et al. 2014), with the authors' face file.

A rider is a ``person`` in COCO, with keypoints and a face. ``boxes_train2017.json`` has the layout that
Hukkelås & Lindseth (2023) publish for COCO.
"""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .poses import KEYPOINTS
from .scene import Scene, SceneObject

SUPERCATEGORIES = {
    "person": {1: "person"},
    "vehicle": {
        2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    },
    "outdoor": {10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench"},
    "animal": {
        16: "bird", 17: "cat", 18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear",
        24: "zebra", 25: "giraffe",
    },
    "accessory": {27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase"},
    "sports": {
        34: "frisbee", 35: "skis", 36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat",
        40: "baseball glove", 41: "skateboard", 42: "surfboard", 43: "tennis racket",
    },
    "kitchen": {
        44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife", 50: "spoon", 51: "bowl",
    },
    "food": {
        52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot", 58: "hot dog",
        59: "pizza", 60: "donut", 61: "cake",
    },
    "furniture": {
        62: "chair", 63: "couch", 64: "potted plant", 65: "bed", 67: "dining table", 70: "toilet",
    },
    "electronic": {72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard", 77: "cell phone"},
    "appliance": {78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator"},
    "indoor": {
        84: "book", 85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier",
        90: "toothbrush",
    },
}  # fmt: skip  # the 80 categories of COCO 2017 under their own ids
CATEGORY_IDS = {name: number for group in SUPERCATEGORIES.values() for number, name in group.items()}
SKELETON = [
    [16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9], [8, 10], [9, 11],
    [2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7],
]  # fmt: skip  # COCO's

FIRST_ID = {"train": 1, "val": 500_001}  # image ids are unique over both splits, as COCO's are
IDS_PER_IMAGE = 1000  # annotation ids kept for each image
OUTLINE_ZOOM = 4  # masks are outlined on a grid this much finer, so that the polygons follow pixel edges


def write_scene(root: Path, split: str, index: int, scene: Scene) -> dict[str, Any]:
    """Write the image; returns its entries in the files of the whole split."""
    folder = root / f"{split}2017"
    folder.mkdir(parents=True, exist_ok=True)
    number = FIRST_ID[split] + index
    name = f"{number:012d}.jpg"
    Image.fromarray(scene.image).save(folder / name, quality=95, subsampling=0)
    height, width = scene.image.shape[:2]
    image = {"id": number, "file_name": name, "height": height, "width": width, "license": 1}
    annotations, faces = [], []
    for place, item in enumerate(scene.objects):
        mask = scene.visible(place)
        if not item.countable or not mask.any():
            continue
        entry = _annotation(item, mask, number, number * IDS_PER_IMAGE + len(annotations))
        annotations.append(entry)
        faces.append(item.face)
    return {"image": image, "annotations": annotations, "faces": faces}


def write_split(root: Path, split: str, records: list[dict[str, Any]]) -> None:
    """Write the instance, keypoint and, for training, face files of a split."""
    folder = root / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    head = {
        "info": {"description": "StreetScenes", "version": "1.0", "year": 2023, "contributor": "anonbench"},
        "licenses": [{"id": 1, "name": "Drawn; free to use", "url": ""}],
        "images": [record["image"] for record in records],
    }
    annotations = [entry for record in records for entry in record["annotations"]]
    plain = [{k: v for k, v in entry.items() if "keypoints" not in k} for entry in annotations]
    categories = [
        {"supercategory": group, "id": number, "name": name}
        for group, names in SUPERCATEGORIES.items()
        for number, name in names.items()
    ]
    instances = head | {"annotations": plain, "categories": categories}
    (folder / f"instances_{split}2017.json").write_text(json.dumps(instances))
    person = categories[0] | {"keypoints": list(KEYPOINTS), "skeleton": SKELETON}
    people = [entry for entry in annotations if entry["category_id"] == CATEGORY_IDS["person"]]
    keypoints = head | {"annotations": people, "categories": [person]}
    (folder / f"person_keypoints_{split}2017.json").write_text(json.dumps(keypoints))
    if split == "train":
        faces = {str(record["image"]["id"]): _faces(record) for record in records}
        (root / "boxes_train2017.json").write_text(json.dumps(faces))


def _faces(record: dict[str, Any]) -> dict[str, list]:
    """Face boxes with the index of their person among those with labelled keypoints."""
    boxes, indices = [], []
    pairs = zip(record["annotations"], record["faces"], strict=True)
    labelled = [face for entry, face in pairs if entry.get("num_keypoints", 0) > 0]
    for index, face in enumerate(labelled):
        if face:
            boxes.append([round(v, 2) for v in face])
            indices.append(index)
    return {"boxes": boxes, "keypoint_indices": indices}


def _annotation(item: SceneObject, mask: NDArray[np.bool_], image_id: int, number: int) -> dict[str, Any]:
    label = item.label.removesuffix("group")
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    entry = {
        "id": number,
        "image_id": image_id,
        "category_id": CATEGORY_IDS["person" if label == "rider" else label],
        "segmentation": _run_lengths(mask) if item.group else _polygons(mask[y : y + h, x : x + w], x, y),
        "area": float(np.count_nonzero(mask)),
        "bbox": [float(x), float(y), float(w), float(h)],
        "iscrowd": int(item.group),
    }
    if entry["category_id"] == CATEGORY_IDS["person"]:
        joints = np.zeros((len(KEYPOINTS), 3)) if item.keypoints is None else item.keypoints
        rows = [[round(float(x), 1), round(float(y), 1), int(v)] for x, y, v in joints]
        entry["keypoints"] = [value for row in rows for value in row]
        entry["num_keypoints"] = sum(row[2] > 0 for row in rows)
    return entry


def _polygons(mask: NDArray[np.bool_], left: int, top: int) -> list[list[float]]:
    """Outlines of a cropped mask along its pixel edges, one per connected piece."""
    zoomed = mask.repeat(OUTLINE_ZOOM, axis=0).repeat(OUTLINE_ZOOM, axis=1).astype(np.uint8)
    contours, _ = cv2.findContours(zoomed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    corner = np.array([left, top])
    return [np.round((c.reshape(-1, 2) + 0.5) / OUTLINE_ZOOM + corner, 2).ravel().tolist() for c in contours]


def _run_lengths(mask: NDArray[np.bool_]) -> dict[str, list[int]]:
    """Uncompressed run-length code: column by column, lengths of runs of zeros and ones in turn."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff([0, *changes, flat.size]).tolist()
    return {"counts": [0, *counts] if flat[0] else counts, "size": list(mask.shape)}
