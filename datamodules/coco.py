"""COCO: ``SPLIT2017/*.jpg`` with ``annotations/instances_SPLIT2017.json`` and ``person_keypoints_SPLIT2017.json``."""

from collections import defaultdict
from typing import Any, ClassVar

import numpy as np
from faster_coco_eval.core import mask as mask_api

from datamodules.base import DetectionDataModule
from datamodules.files import read_json
from datamodules.record import RLE, Instance, Record
from errors import UserError


class _CocoDataModule(DetectionDataModule):
    task: ClassVar[str]  # the annotation file's first word

    def read(self, split: str, region: str) -> list[Record]:
        """See the base class. Faces come from ``boxes_SPLIT2017.json`` in the root.

        The people are the annotations of person_keypoints with at least one labelled keypoint, in the
        instances task too (PROTOCOL: regions).
        """
        path = self._annotation_file(self.task, split)
        content = read_json(path, f"it annotates {self.root}/{split}2017")
        try:
            categories = sorted((c["id"], c["name"]) for c in content["categories"])
            self.classes = tuple(name for _, name in categories)
            labels = {id_: label for label, (id_, _) in enumerate(categories, start=1)}
            by_image = _by_image(content)
            people = by_image if self.task == "person_keypoints" or region == "none" else self._people(split)
            faces = self._faces(split, people) if region == "face" else {}
            records = []
            for image in content["images"]:
                size = int(image["height"]), int(image["width"])
                annotations = by_image[image["id"]]
                bodies = _labelled(people[image["id"]]) if region == "body" else []
                records.append(
                    Record(
                        image_id=str(image["id"]),
                        path=self.root / f"{split}2017" / image["file_name"],
                        size=size,
                        instances=[_instance(a, labels, size, "keypoints" in self.iou_types) for a in annotations],
                        bodies=[(a["id"], to_rle(a["segmentation"], size)) for a in bodies],
                        faces=faces.get(str(image["id"]), []),
                    )
                )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"{path}: not in COCO's format: {error!r}") from None
        return sorted(records, key=lambda r: r.path)

    def _annotation_file(self, task: str, split: str) -> Any:
        return self.root / "annotations" / f"{task}_{split}2017.json"

    def _people(self, split: str) -> dict[int, list[dict[str, Any]]]:
        path = self._annotation_file("person_keypoints", split)
        return _by_image(read_json(path, "its annotations with keypoints are the people to anonymize"))

    def _faces(self, split: str, people: dict[int, list[dict[str, Any]]]) -> dict[str, list[tuple[int, list[float]]]]:
        path = self.root / f"boxes_{split}2017.json"
        content = read_json(path, "faces are anonymized by the boxes in this file")
        faces = {}
        for image, entry in content.items():
            owners = _labelled(people[int(image)])
            try:
                ids = [owners[i]["id"] for i in entry["keypoint_indices"]]
                boxes = [[float(x) for x in box[:4]] for box in entry["boxes"]]
                faces[image] = list(zip(ids, boxes, strict=True))
            except (KeyError, TypeError, ValueError, IndexError) as error:
                raise UserError(f"{path}: image {image}: boxes and keypoint_indices do not fit: {error!r}") from None
        return faces


class CocoInstancesDataModule(_CocoDataModule):
    """COCO instance segmentation; category ids become labels 1..K in their order."""

    task = "instances"
    iou_types: ClassVar[tuple[str, ...]] = ("bbox", "segm")


class CocoKeypointsDataModule(_CocoDataModule):
    """COCO person keypoints."""

    task = "person_keypoints"
    iou_types: ClassVar[tuple[str, ...]] = ("bbox", "keypoints")

    def is_trainable(self, record: Record) -> bool:
        """Keep images with a labelled keypoint, as detectron2's keypoint schedules do."""
        return any(not i.crowd and (i.keypoints[:, 2] > 0).any() for i in record.instances)


def to_rle(segmentation: list[list[float]] | dict[str, Any], size: tuple[int, int]) -> RLE:
    """Convert a COCO segmentation (polygons, or run lengths) to compressed RLE as pycocotools' ``annToRLE``."""
    height, width = size
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        return mask_api.frPyObjects(segmentation, height, width) if isinstance(counts, list) else segmentation
    return mask_api.merge(mask_api.frPyObjects(segmentation, height, width))


def _by_image(content: dict[str, Any]) -> dict[int, list[dict[str, Any]]]:
    grouped = defaultdict(list)
    for annotation in content["annotations"]:
        grouped[annotation["image_id"]].append(annotation)
    return grouped


def _labelled(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [a for a in annotations if any(v > 0 for v in a["keypoints"][2::3])]


def _instance(annotation: dict[str, Any], labels: dict[int, int], size: tuple[int, int], keypoints: bool) -> Instance:
    x, y, width, height = annotation["bbox"]
    return Instance(
        id=annotation["id"],
        label=labels[annotation["category_id"]],
        box=(x, y, x + width, y + height),
        mask=to_rle(annotation["segmentation"], size),
        area=float(annotation["area"]),
        crowd=bool(annotation.get("iscrowd", 0)),
        keypoints=np.array(annotation["keypoints"], np.float32).reshape(17, 3) if keypoints else None,
    )
