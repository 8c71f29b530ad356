"""Reading the files that datasets come with, and naming what is wrong in them."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from datamodules.values import numbers
from errors import UserError

FACES_PURPOSE = "faces are anonymized by the boxes in this file, which annotate.py makes"


def read_json(path: Path, purpose: str) -> Any:
    """Read a JSON file.

    Raises:
        UserError: if it is missing, saying what it is for, or no JSON that Python can hold.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; {purpose}") from None
    except (OSError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}") from None


@contextmanager
def naming(path: Path, item: str) -> Iterator[None]:
    """Name the file and the object in it when what is done with the object fails.

    Raises:
        UserError: in place of the errors that values of a wrong kind cause.
    """
    try:
        yield
    except KeyError as error:
        raise UserError(f"{path}: {item}: has no {error}") from None
    except (AttributeError, IndexError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {item}: {error}") from None


def image_of(key: str) -> str:
    """Name the image of a key in the authors' files: in the ids of Cityscapes detectron2 leaves the file name's end."""
    return key.removesuffix("_leftImg8bit.png")


def read_face_boxes(path: Path) -> dict[str, list[list[float]]]:
    """Read the authors' ``face_boxes_train.json`` for Cityscapes and BDD100K.

    Returns:
        Image id, for Cityscapes without the end of the image's file name, -> boxes x0, y0, x1, y1 in pixels.

    Raises:
        UserError: if the file is missing or not of that form.
    """
    content = read_json(path, FACES_PURPOSE)
    if not isinstance(content, dict):
        raise UserError(f"{path}: not of the form {{image id: [[x0, y0, x1, y1], ...]}}")
    faces = {}
    for id_, boxes in content.items():
        with naming(path, f"image {id_}"):
            image = image_of(id_)
            if image in faces:
                raise ValueError("is there twice")
            faces[image] = [face_box(box) for box in boxes]
    return faces


def face_box(box: list[float]) -> list[float]:
    """Take x0, y0, x1, y1 of a detection, which may go on with its score.

    Raises:
        ValueError: for fewer or other numbers, or edges in the wrong order.
    """
    x0, y0, x1, y1 = numbers(box[:4]).astype(float).tolist()
    if not (x0 <= x1 and y0 <= y1):
        raise ValueError(f"{box} is no box x0, y0, x1, y1")
    return [x0, y0, x1, y1]


def fingerprint(source: Path, pixels: bool = False) -> str:
    """Digest a file, or the names of all files below a folder with the content of JSON files and the size of others.

    That is, of a dataset, what takes no time: not the pixels. Modification times do not count, so that it may move to
    another disk.

    Args:
        source: the file or folder.
        pixels: digest the content of all files.
    """
    digest = hashlib.sha256()
    if source.is_file():
        _digest(source, digest)
    for parent, folders, names in os.walk(source, followlinks=True):
        folders.sort()
        for path in (Path(parent, name) for name in sorted(names)):
            digest.update(f"{path.relative_to(source)}\0".encode(errors="surrogateescape"))
            with suppress(FileNotFoundError):  # a link to nothing
                if pixels or path.suffix == ".json":
                    _digest(path, digest)
                else:
                    digest.update(f"{path.stat().st_size}".encode())
            digest.update(b"\n")
    return digest.hexdigest()


def _digest(path: Path, digest: Any) -> None:
    with path.open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
