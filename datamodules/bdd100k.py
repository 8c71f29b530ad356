"""BDD100K, 10k images: ``images/10k/SPLIT/*.jpg`` with ``labels/ins_seg/bitmasks/SPLIT/*.png``.

The bdd100k toolkit's ``label/to_coco.py`` makes ``jsons/ins_seg_SPLIT_cocofmt.json`` of the labels. Where it is there,
it is read instead of the bitmasks; the records are the same. Regions that are a crowd or ignored (``other person``,
``other vehicle`` and ``trailer``, each counted to a class) are what COCO calls a crowd: not trained on, and detections
in them are not counted.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from faster_coco_eval.core import mask as mask_api

from datamodules import coco
from datamodules.base import DetectionDataModule
from datamodules.files import naming, read_face_boxes, read_json
from datamodules.index import Plan
from datamodules.keypoints import Poses, read_keypoints
from datamodules.record import RLE, Instance, Record, opened
from datamodules.runs import Runs
from datamodules.values import check_unique, flag, listed
from errors import UserError, nearest

# Of categories 1 to 8 (bdd100k/configs/ins_seg.toml).
CLASSES = ("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
# Bits of a bitmask's green channel; the others are truncated (8) and occluded (4) (bdd100k/label/to_mask.py).
CROWD, IGNORED = 2, 1


class Bdd100kDataModule(DetectionDataModule):
    """BDD100K instance segmentation: 8 classes, people are the category pedestrian (riders stay as they are)."""

    classes = CLASSES
    iou_types: ClassVar[tuple[str, ...]] = ("bbox", "segm")
    annotation_paths: ClassVar[tuple[str, ...]] = ("labels", "jsons")
    faces_name: ClassVar[str] = "face_boxes_{split}.json"
    posed_regions: ClassVar[tuple[str, ...]] = ("body",)  # the files do not say whose face it is

    def image_folder(self, split: str) -> Path:
        """See the base class."""
        return Path("images", "10k", split)

    def bitmask_folder(self, split: str) -> Path:
        """Return the folder of a split's bitmasks."""
        return self.root / "labels" / "ins_seg" / "bitmasks" / split

    def converted_file(self, split: str) -> Path:
        """Return the file with a split's labels in COCO's format."""
        return self.root / "jsons" / f"ins_seg_{split}_cocofmt.json"

    def sources(self, split: str, region: str) -> list[Path]:
        """See the base class."""
        faces = [self.faces_file(split)] if region == "face" else []
        poses = [self.keypoints_file(split)] if self.posed(region) else []
        annotations = [self.converted_file(split), self.bitmask_folder(split)]
        return [self.root / self.image_folder(split), *annotations, *faces, *poses]

    def plan(self, split: str, region: str) -> Plan:
        """See the base class. The ids of images in the files of faces and keypoints are those of the converted file."""
        folder, converted = self.root / self.image_folder(split), self.converted_file(split)
        content = read_converted(converted)
        if content is not None:
            by_image = coco.group_by_image(converted, content)
            read = partial(read_annotations, converted, folder, category_labels(converted, content))
            with naming(converted, "images"):
                images = sorted(content["images"], key=lambda image: image["file_name"])
                jobs = {str(image["id"]): (image, by_image.get(image["id"], [])) for image in images}
        else:
            paths = sorted(self.bitmask_folder(split).glob("*.png"))
            read = read_objects
            # The ids that the toolkit would give.
            jobs = {str(n): (str(n), folder / f"{path.stem}.jpg", path) for n, path in enumerate(paths, start=1)}
        if not jobs:
            raise UserError(f"data.root: no image is annotated by {converted} or {self.bitmask_folder(split)}/*.png")
        faces = {}
        if region == "face":
            path = self.faces_file(split)
            faces = {id_: list(enumerate(boxes)) for id_, boxes in read_face_boxes(path).items()}
            if faces and faces.keys().isdisjoint(jobs):
                raise UserError(f"{path}: none of its image ids is that of an image in {folder}")
        keypoints = read_keypoints(self.keypoints_file(split), jobs) if self.posed(region) else {}
        return Plan(CLASSES, read, [(*job, faces.get(id_, []), keypoints.get(id_)) for id_, job in jobs.items()])


def read_converted(path: Path) -> dict[str, Any] | None:
    """Read the file in COCO's format; None where it is missing or the bitmasks have to be read all the same.

    That is where the toolkit made it of bitmasks alone (``--only-mask``): then it does not say what is ignored.

    Raises:
        UserError: if it is no such file.
    """
    if not path.exists():
        return None
    content = read_json(path, "it annotates the images")
    with naming(path, "annotations"):
        return content if all("ignore" in annotation for annotation in listed(content, "annotations")) else None


def category_labels(path: Path, content: dict[str, Any]) -> dict[int, int]:
    """Map the category ids of a file in COCO's format to labels.

    Raises:
        UserError: for a category that is not one of `CLASSES`.
    """
    with naming(path, "categories"):
        check_unique(category["id"] for category in listed(content, "categories"))
        names = {category["id"]: category["name"] for category in content["categories"]}
        for name in names.values():
            if name not in CLASSES:
                raise ValueError(f"unknown category '{name}'{nearest(name, CLASSES)}")
    return {id_: 1 + CLASSES.index(name) for id_, name in names.items()}


def read_annotations(
    path: Path,
    folder: Path,
    labels: dict[int, int],
    image: dict[str, Any],
    annotations: list[coco.Annotation],
    faces: list[tuple[int, list[float]]],
    poses: Poses | None,
) -> Record:
    """Make the record of an image from the file in COCO's format; see `datamodules.coco.read_record`."""
    annotations = sorted(annotations, key=lambda annotation: annotation["id"])
    record = coco.read_record(path, folder, labels, False, image, annotations, [], faces)
    # The file has lost the objects' own ids, but kept their order.
    instances = []
    for place, (instance, annotation) in enumerate(zip(record.instances, annotations, strict=True)):
        with naming(path, f"annotation {annotation['id']}"):
            crowd = flag(annotation["iscrowd"]) or flag(annotation["ignore"])
        instances.append(replace(instance, id=place, crowd=crowd))
    return _with_people(replace(record, instances=instances), poses)


def read_objects(
    image_id: str, image: Path, bitmask: Path, faces: list[tuple[int, list[float]]], poses: Poses | None
) -> Record:
    """Make the record of an image from its bitmask.

    Raises:
        UserError: naming the bitmask that is missing or wrong.
    """
    pixels = read_bitmask(bitmask)
    instances = []
    for place, item in enumerate(bitmask_objects(pixels)):
        if item.category > len(CLASSES):
            raise UserError(f"{bitmask}: object {item.number}: category {item.category} is none of 1 to {len(CLASSES)}")
        x, y, width, height = mask_api.toBbox(item.mask).tolist()
        instances.append(
            Instance(
                id=place,
                label=item.category,
                box=(x, y, x + width, y + height),
                mask=item.mask,
                area=float(mask_api.area(item.mask)),
                crowd=bool(item.attributes & (CROWD | IGNORED)),
            )
        )
    return _with_people(Record(image_id, image, pixels.shape[:2], instances, faces=faces), poses)


def read_bitmask(path: Path) -> np.ndarray:
    """Decode a bitmask: uint8 [H, W, 4] of category, attributes, and the object's number in two bytes.

    Raises:
        UserError: if the file is missing, corrupt or no bitmask.
    """
    with opened(path, "bitmask") as file:
        if file.mode != "RGBA":
            raise UserError(f"{path}: is no bitmask, which is RGBA, but {file.mode}")
        return np.asarray(file)


class BitmaskObject(NamedTuple):
    """What a bitmask says about an object."""

    category: int  # 1 to 8
    attributes: int  # see `CROWD` and `IGNORED`
    number: int  # unique in the image
    mask: RLE


def bitmask_objects(pixels: np.ndarray) -> list[BitmaskObject]:
    """List the objects of a bitmask, uint8 [H, W, 4], in the order of their numbers.

    As in the toolkit, pixels of category 0 are background whatever else they say.
    """
    # OpenCV, in `Runs`, has no unsigned type of this size.
    runs = Runs(np.ascontiguousarray(pixels).view(">u4")[..., 0].astype(np.uint32).view(np.int32))
    values = np.unique(runs.values)
    found = [(v >> 24 & 255, v >> 16 & 255, v & 65535, v) for v in values.tolist() if v >> 24]
    found.sort(key=lambda item: item[2])
    return [BitmaskObject(*item, runs.mask(runs.values == value)) for *item, value in found]


def _with_people(record: Record, poses: Poses | None) -> Record:
    people = {i.id: i.mask for i in record.instances if CLASSES[i.label - 1] == "pedestrian" and not i.crowd}
    keypoints = {} if poses is None else poses.of(list(people))
    return replace(record, bodies=list(people.items()), keypoints=keypoints)
