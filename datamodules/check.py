"""Verify a dataset before training on it: ``python -m datamodules.check --config configs/cityscapes.yaml``."""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from errors import UserError, script

if TYPE_CHECKING:
    from configs import Config
    from datamodules.base import DetectionDataModule
    from datamodules.record import Record

EXAMPLES = 3  # of a kind of finding that are printed
FEW_JOBS = 500  # that are done before other processes have started
EPILOG = """key=value: overrides of the experiment's keys, see configs/__init__.py
exit codes: 0 usable, 1 unusable, 2 wrong arguments

example: python -m datamodules.check --config configs/cityscapes.yaml data.root=/data/cityscapes
"""


class Kind(Enum):
    """What can be found: in words, and whether the dataset cannot be used then."""

    NO_IMAGES = "split without images", True
    NO_OBJECTS = "split without an object of a class", True
    MISSING_IMAGE = "image is missing", True
    UNREADABLE_IMAGE = "image cannot be decoded", True
    ANNOTATED_SIZE = "image is not of the annotated size", True
    MISSING_ANNOTATION = "annotation is missing", True
    REFUSED = "annotation cannot be used", True
    NUMBER_TWICE = "two objects have the same number", True
    UNLISTED_IMAGE = "image is not in the annotations", False
    COUNT = "number of images is not the official one", False
    ODD_SIZE = "size differs from the official", False
    FEW_POINTS = "polygon has fewer than 3 points", False
    OUTSIDE_POLYGON = "polygon goes beyond the image", False
    OUTSIDE_BOX = "box goes beyond the image", False
    NO_AREA = "object has no area", False
    CLASSES = "the splits have different classes", True
    NOBODY = "nobody can be anonymized", False
    ORIENTATION = "Exif turns or mirrors the image: are its annotations of the image as stored?", False
    NO_FACES = "no face boxes: face/ conditions need them, see annotate.py", False
    STRAY_FACES = "face boxes in an image without a person: are its image ids of another conversion?", False

    def __init__(self, text: str, unusable: bool) -> None:
        self.text = text
        self.unusable = unusable


Finding = tuple[Kind, str]
Job = tuple[Callable[..., "Inspection"], tuple[Any, ...]]


@dataclass
class Inspection:
    """What was seen in an image or annotation, or in a whole split."""

    findings: list[Finding] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    images: int = 0
    objects: int = 0
    people: int = 0  # to anonymize: bodies, or faces where boxes of them are there
    faces: int = 0  # boxes
    images_with_faces: int = 0

    def add(self, other: "Inspection") -> None:
        """Take in what was seen elsewhere."""
        self.findings += other.findings
        self.images += other.images
        self.objects += other.objects
        self.people += other.people
        self.faces += other.faces
        self.images_with_faces += other.images_with_faces


# Compares the images of a split with its annotations; returns what is wrong and what to look at in each annotation.
Comparison = Callable[["DetectionDataModule", str, list[Path]], tuple[list[Finding], list[Job]]]


class Layout(NamedTuple):
    """What is known of a dataset.

    Attributes:
        counts: split -> official number of images.
        size: official height and width of every image in pixels, if they are all equal.
        compare: see `Comparison`.
        numbered: the face boxes have image ids that another conversion of the annotations may give differently.
    """

    counts: dict[str, int]
    size: tuple[int, int] | None
    compare: Comparison
    numbered: bool = False


@script
def main() -> None:
    """Check the dataset that the command line names."""
    parser = argparse.ArgumentParser(
        "python -m datamodules.check",
        description="Verify a dataset before training on it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, help="experiment file that names the dataset")
    arguments, overrides = parser.parse_known_args()

    from configs import load_config

    splits = check(load_config(arguments.config, overrides))
    if report(splits):
        sys.exit(1)


def check(config: "Config") -> dict[str, Inspection]:
    """Look at every image and annotation of the splits that training and evaluation read, and of others with images.

    Returns:
        What was seen, by split.

    Raises:
        UserError: the layout is unknown or the root does not exist.
    """
    from datamodules.layouts import build_datamodule
    from datamodules.pool import process_map
    from processes import cores

    datamodule = build_datamodule(config)
    if not datamodule.root.is_dir():
        raise UserError(f"data.root: folder {datamodule.root} does not exist")
    layout = CHECKED[config.data.layout]
    others = [split for split in layout.counts if (datamodule.root / datamodule.image_folder(split)).is_dir()]
    splits = {split: Inspection() for split in ("train", config.data.val_split, *others)}
    jobs = [(split, job) for split in splits for job in _jobs(datamodule, layout, split, splits[split])]
    workers = cores() if len(jobs) > FEW_JOBS else 0
    inspections = process_map(_run, [job for _, job in jobs], workers, f"checking {datamodule.root}")
    for (split, _), inspection in zip(jobs, inspections, strict=True):
        splits[split].add(inspection)
    for split in dict.fromkeys(("train", config.data.val_split)):
        seen = splits[split]
        if seen.images and not any(kind.unusable for kind, _ in seen.findings):
            if not seen.objects:
                seen.findings.append((Kind.NO_OBJECTS, split))
            elif split == "train" and not seen.people and Kind.NOBODY not in dict(seen.findings):
                what = "face box" if datamodule.faces_file(split).is_file() else "person"
                seen.findings.append((Kind.NOBODY, f"no training image has a {what}"))
    train, val = splits["train"].classes, splits[config.data.val_split].classes
    if train and val and train != val:
        differing = ", ".join(sorted(set(train).symmetric_difference(val))) or "their order"
        splits["train"].findings.append((Kind.CLASSES, differing))
    return splits


def _run(job: Job) -> Inspection:
    function, arguments = job
    return function(*arguments)


def _jobs(datamodule: "DetectionDataModule", layout: Layout, split: str, seen: Inspection) -> list[Job]:
    """Compare what a split should have with what it has; returns what is left to look at, image by image."""
    folder = datamodule.root / datamodule.image_folder(split)
    from datamodules.originals import pictures

    images = sorted(datamodule.root / name for name in pictures(datamodule.root, datamodule.image_folder(split)))
    seen.images = len(images)
    if not images:
        seen.findings.append((Kind.NO_IMAGES, f"{folder} has none"))
    elif len(images) != layout.counts.get(split, len(images)):
        seen.findings.append((Kind.COUNT, f"{len(images):,} of {layout.counts[split]:,} in {folder}"))
    jobs: list[Job] = [(inspect_image, (image, layout.size)) for image in images]
    if split == "test":
        return jobs  # its annotations are not published

    try:
        findings, more_jobs = layout.compare(datamodule, split, images)
    except UserError as error:
        seen.findings.append((Kind.REFUSED, str(error)))
        return jobs
    seen.findings += findings
    jobs += more_jobs
    faces = datamodule.faces_file(split)
    has_faces = split == "train" and faces.is_file()  # only training images are anonymized
    if split == "train" and not has_faces:
        seen.findings.append((Kind.NO_FACES, str(faces)))
    without = {text for kind, text in findings if kind is Kind.MISSING_ANNOTATION}
    people = "face" if has_faces else "body"
    for region in (people, "none") if split == "train" else ("none",):
        try:
            plan = datamodule.plan(split, region)
        except UserError as error:
            seen.findings.append((Kind.NOBODY if region == "body" else Kind.REFUSED, str(error)))
            continue
        seen.classes = plan.classes
        for job in plan.jobs:
            if not any(str(item) in without for item in job if isinstance(item, Path)):
                jobs.append((inspect_record, (layout.numbered, plan.read_record, job)))
        break
    return jobs


def _unpaired(images: list[Path], annotated: list[Path], kind: Kind) -> list[Finding]:
    """Images that are annotated and not there, and, as ``kind``, those that are there and not annotated."""
    missing = [
        (Kind.UNREADABLE_IMAGE, f"{path}: its name ends as that of no picture Pillow reads")
        if path.exists()
        else (Kind.MISSING_IMAGE, str(path))
        for path in sorted(set(annotated).difference(images))
    ]
    return missing + [(kind, str(path)) for path in sorted(set(images).difference(annotated))]


def inspect_image(path: Path, official: tuple[int, int] | None) -> Inspection:
    """Decode an image and compare its size, height and width in pixels, with the official one."""
    from PIL import ExifTags, Image

    try:
        with Image.open(path) as image:
            image.load()
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception as error:  # on corrupt files Pillow's decoders raise more than they document
        return Inspection([(Kind.UNREADABLE_IMAGE, f"{path}: {error}")])
    size = image.height, image.width
    seen = Inspection()
    if orientation in (2, 3, 4) or (orientation in (5, 6, 7, 8) and image.height == image.width):
        # Of the others the annotated size tells: see `Record.read_image`.
        seen.findings.append((Kind.ORIENTATION, f"{path}: orientation {orientation}"))
    if official is None or size == official:
        return seen
    return Inspection([*seen.findings, (Kind.ODD_SIZE, f"{path}: {_pixels(size)}, not {_pixels(official)}")])


def inspect_record(numbered: bool, read_record: "Callable[..., Record]", job: tuple[Any, ...]) -> Inspection:
    """Make a record as training does, and look at its objects and faces."""
    from datamodules.regions import face_boxes

    try:
        record = read_record(*job)
        face_boxes(record)
    except UserError as error:
        return Inspection([(Kind.REFUSED, str(error))])
    seen = Inspection(
        objects=len(record.instances),
        people=len(record.bodies) + len(record.faces),
        faces=len(record.faces),
        images_with_faces=bool(record.faces),
    )
    if (size := _size(record.path)) not in (None, record.size, record.size[::-1]):
        annotated = f"{_pixels(size)}, annotated as {_pixels(record.size)}"
        seen.findings.append((Kind.ANNOTATED_SIZE, f"{record.path}: {annotated}"))
    if numbered and record.faces and not record.bodies:
        seen.findings.append((Kind.STRAY_FACES, f"image id {record.image_id}, {record.path}"))
    height, width = record.size
    for instance in record.instances:
        x0, y0, x1, y1 = instance.box
        name = f"{record.path}: object {instance.id}"
        if not (x0 < x1 and y0 < y1 and instance.area > 0):
            seen.findings.append((Kind.NO_AREA, name))
        if min(x0, y0) < -1 or x1 > width + 1 or y1 > height + 1:  # rounding goes up to a pixel too far
            seen.findings.append((Kind.OUTSIDE_BOX, f"{name}: {list(instance.box)} in {_pixels(record.size)}"))
    return seen


def _size(path: Path) -> tuple[int, int] | None:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Exception:
        return None  # missing, or found corrupt by `inspect_image`


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"


def _polygon_findings(name: str, xs: list[float], ys: list[float], size: tuple[int, int]) -> list[Finding]:
    height, width = size
    findings = [(Kind.FEW_POINTS, f"{name}: {len(xs)}")] if len(xs) < 3 else []
    if xs and (min(xs) < 0 or min(ys) < 0 or max(xs) > width or max(ys) > height):
        reach = f"x {min(xs):g} to {max(xs):g}, y {min(ys):g} to {max(ys):g}"
        findings.append((Kind.OUTSIDE_POLYGON, f"{name}: {reach} in {_pixels(size)}"))
    return findings


# --- Cityscapes -------------------------------------------------------------------------------------------


def _cityscapes(datamodule: "DetectionDataModule", split: str, images: list[Path]) -> tuple[list[Finding], list[Job]]:
    folder = datamodule.root / datamodule.image_folder(split)
    paths = sorted((datamodule.root / "gtFine" / split).glob("*/*_gtFine_polygons.json"))
    annotated = [folder / p.parent.name / p.name.replace("_gtFine_polygons.json", "_leftImg8bit.png") for p in paths]
    jobs: list[Job] = [(inspect_polygons, (path,)) for path in paths]
    return _unpaired(images, annotated, Kind.MISSING_ANNOTATION), jobs


def inspect_polygons(path: Path) -> Inspection:
    """Look at the points of a ``*_gtFine_polygons.json``."""
    from datamodules.files import naming, read_json

    seen = Inspection()
    try:
        content = read_json(path, "")
        with naming(path, "the annotation"):
            size = int(content["imgHeight"]), int(content["imgWidth"])
            for place, item in enumerate(content["objects"]):
                xs, ys = ([float(point[axis]) for point in item["polygon"]] for axis in (0, 1))
                seen.findings += _polygon_findings(f"{path}: object {place} ({item['label']})", xs, ys, size)
    except UserError:
        pass  # found by `inspect_record`
    return seen


# --- COCO -------------------------------------------------------------------------------------------------


def _coco(datamodule: "DetectionDataModule", split: str, images: list[Path]) -> tuple[list[Finding], list[Job]]:
    path = datamodule.annotation_file(datamodule.task, split)
    return _coco_findings(path, datamodule.root / datamodule.image_folder(split), images), []


def _coco_findings(path: Path, folder: Path, images: list[Path]) -> list[Finding]:
    from datamodules.files import naming, read_json

    content = read_json(path, f"it annotates {folder}")
    with naming(path, "images"):
        findings = _unpaired(images, [folder / i["file_name"] for i in content["images"]], Kind.UNLISTED_IMAGE)
        sizes = {image["id"]: (int(image["height"]), int(image["width"])) for image in content["images"]}
    with naming(path, "annotations"):
        for annotation in content["annotations"]:
            name, image = f"{path}: annotation {annotation['id']}", annotation["image_id"]
            if image not in sizes:
                findings.append((Kind.MISSING_IMAGE, f"{name}: image {image} is not listed"))
            elif isinstance(annotation["segmentation"], list):
                for polygon in annotation["segmentation"]:
                    findings += _polygon_findings(name, polygon[::2], polygon[1::2], sizes[image])
    return findings


# --- BDD100K ----------------------------------------------------------------------------------------------


def _bdd100k(datamodule: "DetectionDataModule", split: str, images: list[Path]) -> tuple[list[Finding], list[Job]]:
    folder, converted = datamodule.root / datamodule.image_folder(split), datamodule.converted_file(split)
    findings = _coco_findings(converted, folder, images) if converted.exists() else []
    bitmasks = sorted(datamodule.bitmask_folder(split).glob("*.png"))
    annotated = [folder / f"{path.stem}.jpg" for path in bitmasks]
    if bitmasks:
        findings += _unpaired(images, annotated, Kind.MISSING_ANNOTATION)
    return findings, [(inspect_bitmask, job) for job in zip(bitmasks, annotated, strict=True)]


def inspect_bitmask(path: Path, image: Path) -> Inspection:
    """Look at a bitmask of BDD100K and compare its size with its image's."""
    from datamodules.bdd100k import bitmask_objects, read_bitmask

    try:
        pixels = read_bitmask(path)
    except UserError as error:
        return Inspection([(Kind.REFUSED, str(error))])
    seen = Inspection()
    if (size := _size(image)) not in (None, pixels.shape[:2]):
        annotated = f"{_pixels(size)}, its bitmask {_pixels(pixels.shape[:2])}"
        seen.findings.append((Kind.ANNOTATED_SIZE, f"{image}: {annotated}"))
    for number, count in Counter(item.number for item in bitmask_objects(pixels)).items():
        if count > 1:
            seen.findings.append((Kind.NUMBER_TWICE, f"{path}: {number}"))
    return seen


CHECKED = {
    "cityscapes": Layout({"train": 2975, "val": 500, "test": 1525}, (1024, 2048), _cityscapes),
    "coco_instances": Layout({"train": 118_287, "val": 5000}, None, _coco),
    "coco_keypoints": Layout({"train": 118_287, "val": 5000}, None, _coco),
    "bdd100k": Layout({"train": 7000, "val": 1000}, (720, 1280), _bdd100k, numbered=True),
    "own": Layout({}, None, _coco),
}


def report(splits: dict[str, Inspection]) -> bool:
    """Print what was seen, and what of it makes the dataset unusable; returns whether anything does."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("split", box=box.SIMPLE_HEAD)
    for heading in ("images", "objects", "face boxes", "images with faces"):
        table.add_column(heading, justify="right")
    for split, seen in splits.items():
        counts = (seen.images, seen.objects, seen.faces, seen.images_with_faces)
        table.add_row(split, *(f"{count:,}" for count in counts))
    Console().print(table)

    unusable = []
    for kind in Kind:
        texts = list(dict.fromkeys(text for seen in splits.values() for found, text in seen.findings if found is kind))
        if not texts:
            continue
        print(f"{'error' if kind.unusable else 'warning'}: {kind.text}: {len(texts):,}")
        for text in texts[:EXAMPLES]:
            print(f"    {text}")
        if len(texts) > EXAMPLES:
            print(f"    and {len(texts) - EXAMPLES:,} more")
        if kind.unusable:
            unusable.append(f"{kind.text} ({len(texts):,})")
    print(f"unusable: {'; '.join(unusable)}" if unusable else "usable")
    return bool(unusable)


if __name__ == "__main__":
    main()
