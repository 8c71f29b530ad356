"""Values of annotations: taken as they are, or refused with a `ValueError` that says what is wrong with them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FARTHEST = 1e5  # pixels: pycocotools draws a polygon's edges point by point, to a corner further out until memory ends


def numbers(values: Any, most: float = FARTHEST) -> np.ndarray:
    """Take the numbers of an annotation, in nested lists of one shape.

    Args:
        values: the annotation's.
        most: what all are nearer to 0 than; by default what pixels in or near an image are.

    Raises:
        ValueError: for anything else than numbers, and those that are too large.
    """
    try:
        array = np.array(values)
    except ValueError:  # lists of several lengths
        array = np.array(None)
    if array.size and (array.dtype.kind not in "iuf" or not (np.abs(array) < most).all()):
        raise ValueError(f"{str(values)[:100]} are no numbers below {most:g}")
    return array


def integer(value: Any) -> int:
    """Take an integer.

    Raises:
        ValueError: for anything else, as 1.5 or "1", which `int` would take.
    """
    if type(value) is not int:
        raise ValueError(f"{str(value)[:100]!r} is no integer")
    return value


def listed(content: Any, key: str) -> list[Any]:
    """Take a list of what an annotation file has.

    Raises:
        KeyError: there is none.
        ValueError: it is no list.
    """
    if not isinstance(content[key], list):
        raise ValueError(f"{key} are no list")
    return content[key]


def check_unique(ids: Iterable[Any], kind: str = "id") -> None:
    """Refuse an id that is there twice: pycocotools would take the last of the objects that have it for all.

    Args:
        ids: of all objects.
        kind: what the ids are called.

    Raises:
        ValueError: naming the id.
    """
    seen = set()
    for id_ in ids:
        if id_ in seen:
            raise ValueError(f"{kind} {id_} is there twice")
        seen.add(id_)


def image_size(height: Any, width: Any) -> tuple[int, int]:
    """Take the height and width of an image, as its annotation has them.

    Raises:
        ValueError: for what no image can have that Pillow reads.
    """
    size = integer(height), integer(width)
    if min(size) < 1 or size[0] * size[1] > 2 * Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"an image of {size[0]} × {size[1]} pixels")
    return size


def image_path(folder: Path, name: str) -> Path:
    """Take an image's file name from an annotation.

    Raises:
        ValueError: the file would not lie in the folder.
    """
    if "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts or not Path(name).name:
        raise ValueError(f"file_name {name!r} is none in {folder}")
    return folder / name


def flag(value: Any) -> bool:
    """Take 0 or 1.

    Raises:
        ValueError: for anything else, as "0", which `bool` would take for true.
    """
    if value not in (0, 1):
        raise ValueError(f"{value!r} is neither 0 nor 1")
    return bool(value)
