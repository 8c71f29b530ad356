"""Cityscapes: ``leftImg8bit/SPLIT/CITY/*_leftImg8bit.png`` with ``gtFine/SPLIT/CITY/*_gtFine_polygons.json``."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from faster_coco_eval.core import mask as mask_api
from PIL import Image, ImageDraw
from torchmetrics import Metric

from datamodules.base import DetectionDataModule
from datamodules.files import read_json
from datamodules.record import RLE, Instance, Record
from errors import UserError
from metrics.cityscapes import CityscapesAP
from metrics.coco import CocoAP

# The labels of cityscapesscripts/helpers/labels.py. First those with instances that the benchmark evaluates, in the
# order of their ids; then the background; then what evaluation leaves out, which is neither right nor wrong.
CLASSES = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
BACKGROUND = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign"),
    *("vegetation", "terrain", "sky"),
)
IGNORED = (
    *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "parking"),
    *("rail track", "guard rail", "bridge", "tunnel", "polegroup", "caravan", "trailer"),
)
WITH_INSTANCES = (*CLASSES, "caravan", "trailer")
UNDRAWN = "license plate"  # its id is negative


class CityscapesDataModule(DetectionDataModule):
    """Cityscapes instance segmentation: 8 classes, people are the label person (riders stay as they are)."""

    classes = CLASSES
    iou_types: ClassVar[tuple[str, ...]] = ("bbox", "segm")

    def metrics(self) -> list[Metric]:
        """AP of boxes is COCO's, AP of masks the Cityscapes benchmark's own."""
        classes = dict(enumerate(CLASSES, start=1))
        return [CocoAP(("bbox",), classes), CityscapesAP(classes)]

    def read(self, split: str, region: str) -> list[Record]:
        """See the base class. Faces come from ``face_boxes_SPLIT.json`` in the root."""
        images = sorted((self.root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
        if not images:
            raise UserError(f"data.root: no image matches {self.root}/leftImg8bit/{split}/*/*_leftImg8bit.png")
        faces = read_face_boxes(self.root / f"face_boxes_{split}.json") if region == "face" else {}
        with ProcessPoolExecutor(min(len(images), len(os.sched_getaffinity(0)))) as pool:
            records = pool.map(read_record, images, (faces.get(image_id(i), []) for i in images), chunksize=16)
            return list(records)


def image_id(image: Path) -> str:
    """Return the authors' id of an image: its stem without ``_leftImg8bit``."""
    return image.stem.removesuffix("_leftImg8bit")


def read_face_boxes(path: Path) -> dict[str, list[list[float]]]:
    """Read the authors' ``face_boxes_train.json``: image id -> boxes [x0, y0, x1, y1, ...] in pixels.

    Raises:
        UserError: if the file is missing or not of that form.
    """
    content = read_json(path, "faces are anonymized by the boxes in this file")
    try:
        return {str(id_): [[float(x) for x in box[:4]] for box in boxes] for id_, boxes in content.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not of the form {{image id: [[x0, y0, x1, y1], ...]}}: {error}") from None


def read_record(image: Path, faces: list[list[float]]) -> Record:
    """Read one image's polygons into a record; instance ids are places in the file's list of objects."""
    city, split = image.parent.name, image.parent.parent.name
    path = image.parents[3] / "gtFine" / split / city / f"{image_id(image)}_gtFine_polygons.json"
    annotation = read_json(path, f"it annotates {image}")
    try:
        size = int(annotation["imgHeight"]), int(annotation["imgWidth"])
        canvas = draw_objects(annotation["objects"], size)
        instances = list(_instances(annotation["objects"], canvas))
        void = _void(annotation["objects"], canvas)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {error if isinstance(error, ValueError) else repr(error)}") from None
    people = [(i.id, i.mask) for i in instances if i.label == 1 + CLASSES.index("person") and not i.crowd]
    return Record(image_id(image), image, size, instances, void, bodies=people, faces=list(enumerate(faces)))


def draw_objects(objects: list[dict[str, Any]], size: tuple[int, int]) -> np.ndarray:
    """Draw polygons as cityscapesscripts does (preparation/json2instanceImg.py): later objects lie on top.

    Returns:
        int32 [H, W]: 1 + the place in ``objects`` of the one visible at a pixel, 0 where there is none.

    Raises:
        ValueError: for an unknown label or a polygon that cannot be drawn.
    """
    canvas = Image.new("I", size[::-1], 0)
    draw = ImageDraw.Draw(canvas)
    for place, item in enumerate(objects):
        label = item["label"]
        if item.get("deleted") or label == UNDRAWN:
            continue
        if _name(label) not in (*CLASSES, *BACKGROUND, *IGNORED):
            raise ValueError(f"object {place}: label '{label}' is none of Cityscapes'")
        polygon = [tuple(point) for point in item["polygon"]]
        if len(polygon) < 2:
            raise ValueError(f"object {place} ({label}): a polygon of {len(polygon)} points cannot be drawn")
        draw.polygon(polygon, fill=place + 1)
    return np.asarray(canvas)


def _instances(objects: list[dict[str, Any]], canvas: np.ndarray) -> Iterator[Instance]:
    for place, item in enumerate(objects):
        name = _name(item["label"])
        if name not in CLASSES or item.get("deleted"):
            continue
        mask = np.asfortranarray(canvas == place + 1, dtype=np.uint8)
        x, y, width, height = cv2.boundingRect(mask)
        if width == 0:
            continue  # hidden altogether: not in instanceIds.png either
        yield Instance(
            id=place,
            label=1 + CLASSES.index(name),
            box=(x, y, x + width, y + height),
            mask=mask_api.encode(mask),
            area=float(cv2.countNonZero(mask)),
            crowd=item["label"] != name,
        )


def _void(objects: list[dict[str, Any]], canvas: np.ndarray) -> RLE:
    """Pixels whose value in instanceIds.png is that of a label which evaluation ignores.

    A single caravan or trailer has an instance's value there, so it is background; a group of them is void.
    """
    ignored = [True]  # where nothing is drawn it is unlabeled
    for item in objects:
        name = _name(item["label"])
        ignored.append(name in IGNORED and (name not in WITH_INSTANCES or item["label"] != name))
    return mask_api.encode(np.asfortranarray(np.array(ignored)[canvas], dtype=np.uint8))


def _name(label: str) -> str:
    """The label of a group's members; polegroup is a label of its own."""
    return label if label in IGNORED else label.removesuffix("group")
