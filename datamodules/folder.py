"""A plain folder of pictures, without any dataset: faces by a detector, or people from the caller's boxes or masks."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as mask_api
from PIL import Image, ImageOps

from datamodules.files import read_json
from datamodules.originals import pictures
from datamodules.record import Record, in_colours, opened
from datamodules.values import numbers
from errors import UserError

LAYOUT = "folder"  # as a copy's manifest calls it

# The people of a picture, given its name and pixels: the fields of its record that say who is in it.
Finder = Callable[[str, np.ndarray], dict[str, Any]]


@dataclass(frozen=True)
class Picture(Record):
    """A decoded picture, upright as its Exif orientation says."""

    pixels: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 3), np.uint8))

    def read_image(self) -> np.ndarray:
        """The pixels: uint8 [height, width, 3] RGB."""
        return self.pixels


class FolderRecords(Sequence[Record]):
    """Every file of a folder and its subfolders; one that is no picture raises when it is read.

    Args:
        root: the folder.
        find: the people of a picture; see `detected_faces`, `given_faces` and `given_bodies`.
        excluded: files and folders that are left out.

    Attributes:
        paths: of the records.
    """

    def __init__(self, root: Path, find: Finder, excluded: Sequence[Path] = ()) -> None:
        self.root, self.find = root, find
        # A link to a folder is not followed, as it may lead back here, but fails as a picture and is so reported.
        files = (p for p in root.rglob("*") if not p.is_dir() or p.is_symlink())
        self.paths = sorted(p for p in files if not any(p.is_relative_to(e) for e in excluded))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Record:
        path = self.paths[index]
        pixels, name = read_upright(path), path.relative_to(self.root).as_posix()
        return Picture(name, path, pixels.shape[:2], [], pixels=pixels, **self.find(name, pixels))


def read_upright(path: Path) -> np.ndarray:
    """Decode a picture, turned as its Exif orientation says: uint8 [height, width, 3] RGB, as `in_colours` makes it.

    Raises:
        UserError: it is none, or damaged.
    """
    with opened(path, "picture") as file:
        return np.asarray(in_colours(ImageOps.exif_transpose(file)))


def detected_faces(detect: Callable[[np.ndarray], np.ndarray]) -> Finder:
    """Faces from a detector; see `anonymization.detectors`."""
    return partial(_detect, detect)


def given_faces(path: Path, root: Path) -> Finder:
    """Faces from a JSON file ``{name: [[x0, y0, x1, y1], ...]}`` in pixels of the upright picture.

    Every picture needs its entry, named as in ``root``: an empty list says that it has no face.

    Raises:
        UserError: the file is missing, not of that form, or has boxes for a picture that ``root`` does not have.
    """
    content = read_json(path, "faces are anonymized by the boxes in this file")
    try:
        boxes = {name: numbers(b).astype(np.float32).reshape(len(b), 4).tolist() for name, b in content.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"boxes: {path} is not of the form {{name: [[x0, y0, x1, y1], ...]}}: {error}") from None
    there = {picture.relative_to(root).as_posix() for picture in root.rglob("*")}
    for name in boxes:
        if name not in there:
            raise UserError(f"boxes: {path} has boxes for '{name}', which {root} does not have")
    return partial(_look_up, path, boxes)


def given_bodies(folder: Path, root: Path) -> Finder:
    """Bodies from ``folder/STEM.png``: a pixel has its person's number, 1 or more, or 0 for the background.

    Every picture in ``root`` needs its mask, of its upright size: one that is 0 everywhere says that it has nobody.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"masks: folder {folder} does not exist")
    stems = Counter(Path(name).with_suffix("") for name in pictures(root, Path()))
    return partial(_read_masks, folder, {stem for stem, count in stems.items() if count > 1})


def _detect(detect: Callable[[np.ndarray], np.ndarray], _: str, image: np.ndarray) -> dict[str, Any]:
    return {"faces": list(enumerate(detect(image)[:, :4].tolist()))}


def _look_up(path: Path, boxes: dict[str, list[list[float]]], name: str, _: np.ndarray) -> dict[str, Any]:
    if name not in boxes:
        raise UserError(f"{path}: has no entry for '{name}'; an empty list says that it has no face")
    return {"faces": list(enumerate(boxes[name]))}


def _read_masks(folder: Path, ambiguous: set[Path], name: str, image: np.ndarray) -> dict[str, Any]:
    path = folder / Path(name).with_suffix(".png")
    if Path(name).suffix.lower() not in Image.registered_extensions():  # else it would share another's mask
        raise UserError(f"{name}: is not named as a picture, so that its mask has no name; rename it: {name}.jpg, say")
    if Path(name).with_suffix("") in ambiguous:
        raise UserError(f"{path}: would be the mask of all pictures that are named {Path(name).stem}; rename them")
    with opened(path, "mask") as file:
        if file.mode not in ("1", "L", "P") and not file.mode.startswith("I"):
            raise UserError(f"{path}: has colours (mode {file.mode}); a mask has one number a pixel")
        numbers = np.asarray(file)
    if numbers.shape != image.shape[:2]:
        raise UserError(f"{path}: has {numbers.shape} pixels, its picture {image.shape[:2]}")
    people = [int(number) for number in np.unique(numbers) if number]
    return {"bodies": [(n, mask_api.encode(np.asfortranarray(numbers == n, np.uint8))) for n in people]}
