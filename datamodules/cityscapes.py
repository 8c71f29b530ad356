"""Cityscapes: ``leftImg8bit/SPLIT/CITY/*_leftImg8bit.png`` with ``gtFine/SPLIT/CITY/*_gtFine_polygons.json``."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from faster_coco_eval.core import mask as mask_api
from PIL import Image, ImageDraw
from torchmetrics import Metric

from datamodules.base import DetectionDataModule
from datamodules.files import naming, read_face_boxes, read_json
from datamodules.index import Plan
from datamodules.keypoints import Poses, cityscapes_people, read_keypoints
from datamodules.record import RLE, Instance, Record
from datamodules.runs import Runs
from datamodules.values import image_size, listed, numbers
from errors import UserError, nearest
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
    annotation_paths: ClassVar[tuple[str, ...]] = ("gtFine",)
    faces_name: ClassVar[str] = "face_boxes_{split}.json"
    posed_regions: ClassVar[tuple[str, ...]] = ("body",)  # the files do not say whose face it is

    def metrics(self) -> list[Metric]:
        """AP of boxes is COCO's, AP of masks the Cityscapes benchmark's own."""
        classes = dict(enumerate(self.classes, start=1))
        return [CocoAP(("bbox",), classes), CityscapesAP(classes)]

    def image_folder(self, split: str) -> Path:
        """See the base class."""
        return Path("leftImg8bit", split)

    def sources(self, split: str, region: str) -> list[Path]:
        """See the base class."""
        faces = [self.faces_file(split)] if region == "face" else []
        poses = [self.keypoints_file(split)] if self.posed(region) else []
        return [self.root / self.image_folder(split), self.root / "gtFine" / split, *faces, *poses]

    def plan(self, split: str, region: str) -> Plan:
        """See the base class."""
        folder = self.root / self.image_folder(split)
        images = sorted(folder.glob("*/*_leftImg8bit.png"))
        if not images:
            raise UserError(f"data.root: no image matches {folder}/*/*_leftImg8bit.png")
        faces = {}
        if region == "face":
            path = self.faces_file(split)
            faces = read_face_boxes(path)
            if faces and faces.keys().isdisjoint(map(image_id, images)):
                raise UserError(f"{path}: none of its images is in {folder}")
        ids = [image_id(image) for image in images]
        keypoints = read_keypoints(self.keypoints_file(split), ids) if self.posed(region) else {}
        jobs = [(image, faces.get(id_, []), keypoints.get(id_)) for image, id_ in zip(images, ids, strict=True)]
        return Plan(CLASSES, read_record, jobs)


def image_id(image: Path) -> str:
    """Return the authors' id of an image: its stem without ``_leftImg8bit``."""
    return image.stem.removesuffix("_leftImg8bit")


def read_record(image: Path, faces: list[list[float]], poses: Poses | None = None) -> Record:
    """Read one image's polygons into a record; instance ids are places in the file's list of objects.

    Args:
        image: the file.
        faces: x0, y0, x1, y1 of each.
        poses: of the image's people, groups too.

    Raises:
        UserError: naming the file and the object that is missing or wrong.
    """
    city, split = image.parent.name, image.parent.parent.name
    path = image.parents[3] / "gtFine" / split / city / f"{image_id(image)}_gtFine_polygons.json"
    annotation = read_json(path, f"it annotates {image}")
    with naming(path, "the annotation"):
        objects = listed(annotation, "objects")
        size = image_size(annotation["imgHeight"], annotation["imgWidth"])
        # Half the memory of cityscapesscripts' mode I is half the time: 8 MB come fresh from the system each time.
        canvas = Image.new("I;16" if len(objects) < 2**16 else "I", size[::-1], 0)
    draw = ImageDraw.Draw(canvas)
    for place, item in enumerate(objects):
        with naming(path, f"object {place}"):
            draw_object(draw, item, place + 1)
    runs = Runs(np.asarray(canvas))
    instances = _instances(objects, runs)
    person = 1 + CLASSES.index("person")
    people = [(i.id, i.mask) for i in instances if i.label == person and not i.crowd]
    record = Record(image_id(image), image, size, instances, _void(objects, runs), people, list(enumerate(faces)))
    return record if poses is None else replace(record, keypoints=poses.of(cityscapes_people(record, person)))


def draw_object(draw: ImageDraw.ImageDraw, item: dict[str, Any], value: int) -> None:
    """Draw an object's polygon as cityscapesscripts does (preparation/json2instanceImg.py): over those before it.

    As there, two points make a line, and what is deleted or a license plate is left out.

    Raises:
        ValueError: for an unknown label or a polygon that cannot be drawn.
    """
    label, polygon = item["label"], [tuple(point) for point in item["polygon"]]
    if not isinstance(label, str):
        raise ValueError(f"label {label!r} is no text")
    if item.get("deleted") or label == UNDRAWN:
        return
    if _name(label) not in (*CLASSES, *BACKGROUND, *IGNORED):
        raise ValueError(f"unknown label '{label}'{nearest(label, (*CLASSES, *BACKGROUND, *IGNORED))}")
    if len(polygon) < 2:
        raise ValueError(f"a {label} of {len(polygon)} points cannot be drawn")
    numbers(polygon)
    draw.polygon(polygon, fill=value)


def _instances(objects: list[dict[str, Any]], runs: Runs) -> list[Instance]:
    visible = set(runs.values.tolist())  # those hidden altogether are not in instanceIds.png either
    instances = []
    for place, item in enumerate(objects):
        name = _name(item["label"])
        if name not in CLASSES or place + 1 not in visible:
            continue
        mask = runs.mask(runs.values == place + 1)
        x, y, width, height = mask_api.toBbox(mask).tolist()
        instances.append(
            Instance(
                id=place,
                label=1 + CLASSES.index(name),
                box=(x, y, x + width, y + height),
                mask=mask,
                area=float(mask_api.area(mask)),
                crowd=item["label"] != name,
            )
        )
    return instances


def _void(objects: list[dict[str, Any]], runs: Runs) -> RLE:
    """Pixels whose value in instanceIds.png is that of a label which evaluation ignores.

    A single caravan or trailer has an instance's value there, so it is background; a group of them is void.
    """
    ignored = [True]  # where nothing is drawn it is unlabeled
    for item in objects:
        name = _name(item["label"])
        ignored.append(name in IGNORED and (name not in WITH_INSTANCES or item["label"] != name))
    return runs.mask(np.array(ignored)[runs.values])


def _name(label: str) -> str:
    """The label of a group's members; polegroup is a label of its own."""
    return label if label in IGNORED else label.removesuffix("group")
