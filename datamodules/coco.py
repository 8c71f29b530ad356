"""COCO: ``SPLIT2017/*.jpg`` with ``annotations/instances_SPLIT2017.json`` and ``person_keypoints_SPLIT2017.json``.

And datasets of one's own in its format: ``SPLIT/*.jpg`` with ``annotations/instances_SPLIT.json``.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from faster_coco_eval.core import mask as mask_api

from datamodules.base import DetectionDataModule
from datamodules.files import FACES_PURPOSE, face_box, naming, read_json
from datamodules.index import Plan
from datamodules.record import RLE, Instance, Record
from datamodules.values import check_unique, flag, image_path, image_size, integer, listed, numbers
from errors import UserError

Annotation = dict[str, Any]  # an object as COCO's files have it


class _CocoDataModule(DetectionDataModule):
    annotation_paths: ClassVar[tuple[str, ...]] = ("annotations",)
    year: ClassVar[str] = "2017"  # after the split in the names of files
    faces_name: ClassVar[str] = "boxes_{split}2017.json"
    task: ClassVar[str]  # the annotation file's first word
    people_task: ClassVar[str] = "person_keypoints"  # that of the file with the people

    def image_folder(self, split: str) -> Path:
        """See the base class."""
        return Path(f"{split}{self.year}")

    def sources(self, split: str, region: str) -> list[Path]:
        """See the base class."""
        tasks = [self.task] if region == "none" else [self.task, self.people_task]
        annotations = [self.annotation_file(task, split) for task in dict.fromkeys(tasks)]
        faces = [self.faces_file(split)] if region == "face" else []
        return [self.root / self.image_folder(split), *annotations, *faces]

    def plan(self, split: str, region: str) -> Plan:
        """See the base class."""
        path, folder = self.annotation_file(self.task, split), self.root / self.image_folder(split)
        content = read_json(path, f"it annotates {folder}")
        by_image = group_by_image(path, content)
        with naming(path, "categories"):
            categories = sorted((integer(c["id"]), c["name"]) for c in listed(content, "categories"))
            check_unique(id_ for id_, _ in categories)
            check_unique((name for _, name in categories), "name")
            if not all(isinstance(name, str) for _, name in categories):
                raise ValueError("a name is no text")
        with naming(path, "images"):
            files = {image["id"]: image["file_name"] for image in content["images"]}
        people = {} if region == "none" else self.people(split, content, by_image)
        for id_ in (id_ for id_, group in people.items() if group and id_ not in files):
            raise UserError(
                f"{self.annotation_file(self.people_task, split)}: a person's image_id {id_!r} is none of the images "
                f"of {path.name}, so nobody knows where that person is"
            )
        bodies = people if region == "body" else {}
        faces = self._faces(split, people, files) if region == "face" else {}
        posed = {id_: [a for a in group if "keypoints" in a] for id_, group in people.items()}
        posed = posed if self.posed(region) else {}
        with naming(path, "images"):
            images = sorted(content["images"], key=lambda image: image["file_name"])
            if not images:
                raise ValueError("there is none")
        jobs = [(i, *(group.get(i["id"], []) for group in (by_image, bodies, faces, posed))) for i in images]
        if faces and faces.keys().isdisjoint(files):
            raise UserError(f"{self.faces_file(split)}: none of its images is in {path}")
        labels = {id_: label for label, (id_, _) in enumerate(categories, start=1)}
        read = partial(read_record, path, folder, labels, "keypoints" in self.iou_types)
        return Plan(tuple(name for _, name in categories), read, jobs)

    def annotation_file(self, task: str, split: str) -> Path:
        """Return the file with a split's annotations for a task."""
        return self.root / "annotations" / f"{task}_{split}{self.year}.json"

    def people(
        self, split: str, content: dict[str, Any], by_image: dict[int, list[Annotation]]
    ) -> dict[int, list[Annotation]]:
        """Find the people to anonymize: by image id, annotations with at least one labelled keypoint.

        They are these in the instances task too, as in the authors' code.

        Args:
            split: train or val.
            content: of the task's annotation file.
            by_image: its annotations.

        Raises:
            UserError: there is no file to find them in, or it is damaged, or about other images.
        """
        path = self.annotation_file(self.people_task, split)
        if self.task != self.people_task:
            purpose = "its annotations with keypoints are the people to anonymize (data.layout=own does without)"
            of_people = read_json(path, purpose)
            by_image = group_by_image(path, of_people)
            with naming(path, "images"):
                files = {image["id"]: image["file_name"] for image in of_people["images"]}
                for image in content["images"]:
                    if files.get(image["id"]) != image["file_name"]:
                        raise ValueError(
                            f"{image['id']} is {files.get(image['id'])}, but {image['file_name']} in "
                            f"{self.annotation_file(self.task, split).name}: nobody knows who is on it"
                        )
        with naming(path, "annotations"):
            return {
                id_: [a for a in group if any(v > 0 for v in a["keypoints"][2::3])] for id_, group in by_image.items()
            }

    def _faces(
        self, split: str, people: dict[int, list[Annotation]], files: dict[int, str]
    ) -> dict[int, list[tuple[int, list[float]]]]:
        path, named = self.faces_file(split), {str(id_): id_ for id_ in files}  # keys are text, ids numbers or text
        content = read_json(path, FACES_PURPOSE)
        if not isinstance(content, dict):
            raise UserError(f"{path}: not of the form {{image id: {{boxes: [...], keypoint_indices: [...]}}}}")
        faces = {}
        for image, entry in content.items():
            with naming(path, f"image {image}"):
                id_ = named[image] if image in named else int(image)
                owners = [a["id"] for a in people.get(id_, [])]
                places = entry["keypoint_indices"]
                if not all(0 <= place < len(owners) for place in places):
                    raise ValueError(f"keypoint_indices {places} of {len(owners)} people with labelled keypoints")
                ids = [owners[place] for place in places]
                check_unique(ids)
                if id_ in faces:
                    raise ValueError("is there twice")
                faces[id_] = list(zip(ids, map(face_box, entry["boxes"]), strict=True))
        return faces


class CocoInstancesDataModule(_CocoDataModule):
    """COCO instance segmentation; category ids become labels 1..K in their order."""

    task = "instances"
    iou_types: ClassVar[tuple[str, ...]] = ("bbox", "segm")


class CocoKeypointsDataModule(_CocoDataModule):
    """COCO person keypoints."""

    task = "person_keypoints"
    iou_types: ClassVar[tuple[str, ...]] = ("bbox", "keypoints")

    @staticmethod
    def is_trainable(record: Record) -> bool:
        """Keep images with a labelled keypoint, as detectron2's keypoint schedules do."""
        return any(not i.crowd and (i.keypoints[:, 2] > 0).any() for i in record.instances)


class OwnDataModule(CocoInstancesDataModule):
    """A dataset of one's own in COCO's format. Its people are the objects of the category person, groups too."""

    year = ""
    faces_name = "boxes_{split}.json"
    people_task = "instances"

    def people(
        self, split: str, content: dict[str, Any], by_image: dict[int, list[Annotation]]
    ) -> dict[int, list[Annotation]]:
        """See the base class; every object of the category person, with keypoints or without."""
        path = self.annotation_file(self.task, split)
        categories = {category["name"]: category["id"] for category in content["categories"]}
        if "person" not in categories:
            raise UserError(
                f"{path}: categories: none of {', '.join(categories)} is named person, whose objects are the people to "
                "anonymize"
            )
        with naming(path, "annotations"):
            person = categories["person"]
            return {id_: [a for a in group if a["category_id"] == person] for id_, group in by_image.items()}


def group_by_image(path: Path, content: dict[str, Any]) -> dict[int, list[Annotation]]:
    """Group the annotations of a file in COCO's format by image id.

    An annotation of an image that the file does not list stays unused, as in pycocotools.

    Raises:
        UserError: for another format, or where two images or two annotations have the same id.
    """
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no mapping with images, annotations and categories")
    grouped = defaultdict(list)
    with naming(path, "annotations"):
        for annotation in listed(content, "annotations"):
            grouped[annotation["image_id"]].append(annotation)
        check_unique(integer(annotation["id"]) for annotation in content["annotations"])
    with naming(path, "images"):
        check_unique(image["id"] for image in listed(content, "images"))
    return dict(grouped)


def read_record(
    path: Path,
    folder: Path,
    labels: dict[int, int],
    keypoints: bool,
    image: dict[str, Any],
    annotations: list[Annotation],
    bodies: list[Annotation],
    faces: list[tuple[int, list[float]]],
    posed: Sequence[Annotation] = (),
) -> Record:
    """Make the record of an image.

    Args:
        path: the annotation file.
        folder: of the images.
        labels: category id -> label.
        keypoints: the annotations have keypoints.
        image: its entry in the file.
        annotations: of the image.
        bodies: annotations of the people to anonymize.
        faces: (annotation id, x0, y0, x1, y1) to anonymize.
        posed: annotations whose keypoints the record gets.

    Raises:
        UserError: naming the file and the image or annotation that is wrong.
    """
    with naming(path, f"image {image['id']}"):
        size = image_size(image["height"], image["width"])
        file = image_path(folder, image["file_name"])
    instances = []
    for annotation in annotations:
        with naming(path, f"annotation {annotation['id']}"):
            instances.append(_instance(annotation, labels, size, keypoints))
    people = []
    for annotation in bodies:
        with naming(path, f"annotation {annotation['id']}"):
            people.append((annotation["id"], to_rle(annotation["segmentation"], size)))
    known = {}
    for annotation in posed:
        with naming(path, f"annotation {annotation['id']}"):
            joints = known[annotation["id"]] = _keypoints(annotation)
            joints[:, 2] = joints[:, 2] > 0
    return Record(str(image["id"]), file, size, instances, bodies=people, faces=faces, keypoints=known)


def to_rle(segmentation: list[list[float]] | dict[str, Any], size: tuple[int, int]) -> RLE:
    """Convert a COCO segmentation (polygons, or run lengths) to compressed RLE as pycocotools' ``annToRLE``.

    Raises:
        ValueError: where that fails too, or the mask is not of the image's size.
    """
    height, width = size
    if isinstance(segmentation, list):
        # By the first one pycocotools tells polygons from boxes, and refuses fewer points than three. A later one of
        # two points covers nothing.
        if not segmentation or len(segmentation[0]) < 6:
            raise ValueError(f"a polygon needs three points, not {segmentation[:1]}")
        for polygon in segmentation:
            numbers(polygon)
        rles = mask_api.frPyObjects(segmentation, height, width)
        return mask_api.merge(rles) if len(rles) > 1 else rles[0]
    if list(segmentation["size"]) != [height, width]:
        raise ValueError(
            f"its mask is {' × '.join(map(str, segmentation['size']))} pixels, its image {height} × {width}"
        )
    counts = segmentation["counts"]
    if isinstance(counts, list):
        rle = mask_api.frPyObjects({"size": [height, width], "counts": [*map(integer, counts)]}, height, width)
    else:
        rle = mask_api.merge([segmentation])
    mask_api.decode(rle)  # raises where the runs are too few or too many for the size
    return rle


def _instance(annotation: Annotation, labels: dict[int, int], size: tuple[int, int], keypoints: bool) -> Instance:
    category = annotation["category_id"]
    if category not in labels:
        raise ValueError(f"category_id {category!r} is none of the file's categories")
    x, y, width, height = numbers(annotation["bbox"]).tolist()
    area = numbers(annotation["area"], most=np.inf).item()
    if min(width, height, area) < 0:
        raise ValueError(f"bbox {annotation['bbox']} or area {area} is negative")
    return Instance(
        id=annotation["id"],
        label=labels[category],
        box=(x, y, x + width, y + height),
        mask=to_rle(annotation["segmentation"], size),
        area=float(area),
        crowd=flag(annotation.get("iscrowd", 0)),
        keypoints=_keypoints(annotation) if keypoints else None,
    )


def _keypoints(annotation: Annotation) -> np.ndarray:
    joints = numbers(annotation["keypoints"]).astype(np.float32).reshape(17, 3)
    if not np.isin(joints[:, 2], (0, 1, 2)).all():
        raise ValueError("a keypoint's visibility is none of 0, 1, 2")
    return joints
