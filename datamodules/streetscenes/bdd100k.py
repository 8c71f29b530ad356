"""Writes scenes in the layout of BDD100K's instance segmentation (Yu et al. 2020), with the authors' files.

The bitmasks and polygons are the download's, ``jsons`` what the bdd100k toolkit's ``label/to_coco.py`` makes of them.
``face_boxes_{train,val}.json`` and ``annotated_keypoints_train.json`` have the layouts that Hukkelås & Lindseth (2023)
publish for BDD100K; their image ids are those of ``jsons``.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as mask_api
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .cityscapes import scored
from .scene import Scene, SceneObject

CATEGORIES = ("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")  # ids 1..8
# Labels of what is too hidden to be told for sure; they stand for a category, and evaluation ignores them.
DISTRACTORS = {"pedestrian": "other person", "car": "other vehicle"}
LEAST_SURE = 1 / 3  # share of itself that shows
ATTRIBUTE_BITS = {"truncated": 3, "occluded": 2, "crowd": 1, "ignored": 0}  # in the bitmask's green channel


def image_id(split: str, index: int) -> str:
    """Name of an image without its ending, as arbitrary as BDD100K's."""
    digits = hashlib.sha256(f"{split} {index}".encode()).hexdigest()
    return f"{digits[:8]}-{digits[8:16]}"


def write_scene(root: Path, split: str, index: int, scene: Scene) -> dict[str, Any]:
    """Write the image and its bitmask; returns what the files of the whole split need."""
    stem = image_id(split, index)
    images, bitmasks = root / "images" / "10k" / split, root / "labels" / "ins_seg" / "bitmasks" / split
    for folder in (images, bitmasks):
        folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.image).save(images / f"{stem}.jpg", quality=95, subsampling=0)
    labels, annotations, people = [], [], []
    colours = np.zeros((len(scene.objects), 4), np.uint8)
    for place, item in enumerate(scene.objects):
        mask = scene.visible(place)
        if not item.countable or not mask.any():
            continue
        name, attributes = _category(item), _attributes(item, mask)
        category, number = CATEGORIES.index(name) + 1, len(labels) + 1
        bits = sum(value << ATTRIBUTE_BITS[key] for key, value in attributes.items())
        colours[place] = category, bits, number >> 8, number & 255
        ignored = attributes.pop("ignored")  # the polygons tell it by their category
        polygon = {"vertices": item.outline.tolist(), "types": "L" * len(item.outline), "closed": True}
        labels.append(
            {"category": DISTRACTORS[name] if ignored else name, "attributes": attributes, "poly2d": [polygon]}
        )
        annotations.append(_annotation(mask, category, item.group or ignored))
        if name == "pedestrian" and not (item.group or ignored):
            people.append(item)
    Image.fromarray(colours[scene.owners]).save(bitmasks / f"{stem}.png", compress_level=1)
    height, width = scene.image.shape[:2]
    return {
        "image": {"file_name": f"{stem}.jpg", "height": height, "width": width},
        "labels": labels,
        "annotations": annotations,
        "faces": [[round(float(v), 2) for v in o.face] for o in people if o.face],
        "keypoints": [scored(o.keypoints) for o in people],
    }


def write_split(root: Path, split: str, records: list[dict[str, Any]]) -> None:
    """Write the polygons, COCO annotations and face boxes of a split, and the keypoints of the training split."""
    frames, images, annotations = [], [], []
    records = sorted(records, key=lambda record: record["image"]["file_name"])  # the toolkit numbers sorted files
    for place, record in enumerate(records, start=1):
        images.append({"id": place, **record["image"]})
        labels = []
        for label, annotation in zip(record["labels"], record["annotations"], strict=True):
            number = len(annotations) + 1
            labels.append({"id": f"{number:08d}", **label})
            ids = {"id": number, "image_id": place, "category_id": annotation["category_id"]}
            annotations.append({**ids, "scalabel_id": labels[-1]["id"], **annotation})
        frames.append({"name": record["image"]["file_name"], "labels": labels})
    categories = [{"id": number, "name": name} for number, name in enumerate(CATEGORIES, start=1)]
    coco = {"type": "instances", "categories": categories, "images": images, "annotations": annotations}
    # Images without a face, or without a pedestrian, have no entry.
    faces = {str(n): r["faces"] for n, r in enumerate(records, start=1) if r["faces"]}
    _dump(root / "labels" / "ins_seg" / "polygons" / f"ins_seg_{split}.json", frames)
    _dump(root / "jsons" / f"ins_seg_{split}_cocofmt.json", coco)
    _dump(root / f"face_boxes_{split}.json", faces)
    if split == "train":
        keypoints = {str(n): {"keypoints": r["keypoints"]} for n, r in enumerate(records, start=1) if r["keypoints"]}
        _dump(root / "annotated_keypoints_train.json", keypoints)


def _dump(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _category(item: SceneObject) -> str:
    name = item.label.removesuffix("group")
    return "pedestrian" if name == "person" else name


def _attributes(item: SceneObject, mask: NDArray[np.bool_]) -> dict[str, bool]:
    """What the bitmask tells about an object besides its category."""
    height, width = mask.shape
    whole = Image.new("L", (width, height))
    ImageDraw.Draw(whole).polygon([(int(x), int(y)) for x, y in item.outline], fill=1)
    shown = float(np.count_nonzero(mask) / np.count_nonzero(whole))
    x, y = item.outline.T
    return {
        "truncated": bool(x.min() <= 0 or y.min() <= 0 or x.max() >= width - 1 or y.max() >= height - 1),
        "occluded": shown < 1,
        "crowd": item.group,
        "ignored": shown < LEAST_SURE and not item.group and _category(item) in DISTRACTORS,
    }


def _annotation(mask: NDArray[np.bool_], category: int, uncounted: bool) -> dict[str, Any]:
    """COCO's annotation without ids; what is a crowd or ignored is a crowd there."""
    rle = mask_api.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "category_id": category,
        "iscrowd": int(uncounted),
        "ignore": 0,
        "bbox": mask_api.toBbox(rle).tolist(),
        "area": int(mask_api.area(rle)),
        "segmentation": {"counts": rle["counts"].decode(), "size": rle["size"]},
    }
