"""One record of a dataset as every reader returns it, whatever the files look like."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as mask_api
from PIL import Image, ImageOps, UnidentifiedImageError

from errors import UserError

RLE = dict[str, Any]  # {"size": [height, width], "counts": bytes}, COCO's compressed run lengths


@dataclass(frozen=True)
class Instance:
    """One labelled object."""

    id: int  # the dataset's own, unique in the image
    label: int  # 1..K, contiguous; 0 is the background
    box: tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels
    mask: RLE
    area: float  # as the annotation says, in pixels
    crowd: bool = False  # a group: not trained on, ignored in evaluation
    keypoints: np.ndarray | None = None  # float32 [17, 3]: x, y, visibility 0, 1 or 2 (COCO's)


@dataclass(frozen=True)
class Record:
    """One image, what is labelled in it, and the people that an anonymization changes."""

    image_id: str
    path: Path
    size: tuple[int, int]  # height, width of the annotations
    instances: list[Instance]
    void: RLE | None = None  # pixels that evaluation ignores, where the dataset has such
    bodies: list[tuple[int, RLE]] = field(default_factory=list)  # (instance id, mask) of each person
    faces: list[tuple[int, list[float]]] = field(default_factory=list)  # (instance id, x0, y0, x1, y1)
    # What a generator may know of people's poses, by instance id: float32 [17, 3], x and y in pixels and 1 where they
    # are known, else 0. Who is not in it has no known pose.
    keypoints: dict[int, np.ndarray] = field(default_factory=dict)

    def read_image(self) -> np.ndarray:
        """Decode the image: uint8 [height, width, 3] RGB, upright as the annotations have it.

        Grey, CMYK and palette images become RGB as torchvision's and COCO's own tools do it (Pillow), transparent ones
        as `in_colours` does.
        Those tools leave EXIF orientation alone, so it is applied only where the annotation's size
        is that of the turned image.

        Raises:
            UserError: if the file is missing, corrupt, or of another size than annotated.
        """
        with opened(self.path, "image") as file:
            image = in_colours(file)
            if image.size != self.size[::-1]:
                image = in_colours(ImageOps.exif_transpose(file))
        if image.size != self.size[::-1]:
            raise UserError(
                f"{self.path}: image is {image.height} × {image.width} pixels, its annotation says "
                f"{self.size[0]} × {self.size[1]}"
            )
        return np.asarray(image)

    def image_problem(self) -> str | None:
        """Say what is wrong with the image file as far as its head and tail show, without decoding it."""
        # A truncated download is by far the commonest damage, and a missing end marker shows it.
        ends = {".png": b"IEND", ".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9"}
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, self.path.stat().st_size - 4096))
                tail = file.read()
            with Image.open(self.path) as image:
                size = image.size
        except FileNotFoundError:
            return f"is a link to {self.path.readlink()}: nothing there" if self.path.is_symlink() else "is missing"
        except Exception as error:  # Pillow has as many kinds as there are ways to be damaged
            return f"cannot be read: {error}"
        end = ends.get(self.path.suffix.lower())
        if end is not None and end not in tail:
            return "is truncated"
        if self.size not in (size, size[::-1]):
            return f"is {size[1]} × {size[0]} pixels, its annotation says {self.size[0]} × {self.size[1]}"
        return None


@contextmanager
def opened(path: Path, kind: str) -> Iterator[Image.Image]:
    """Open a file to decode with Pillow.

    Args:
        path: the file.
        kind: what it is, in a word.

    Raises:
        UserError: in place of Pillow's errors.
    """
    try:
        # Not the file itself: of that Pillow asks as much as a damaged one says it has, for which Python makes room.
        data = io.BytesIO(path.read_bytes())
        with Image.open(data) as file:
            file.verify()  # the checksums of PNG, those of pixels too, which Pillow does not look at when it decodes
        with Image.open(data) as file:
            yield file
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: {kind} is missing") from None
    except UnidentifiedImageError:
        raise UserError(f"{path}: {kind} cannot be decoded: its format is none that Pillow reads") from None
    except Exception as error:  # Pillow has as many kinds as there are ways to be damaged
        raise UserError(f"{path}: {kind} cannot be decoded: {error or type(error).__name__}") from None


def in_colours(image: Image.Image) -> Image.Image:
    """Convert an image to RGB, black where it is transparent: what its viewers do not see is not brought to light."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image.convert("RGB")


def relabelled(record: Record, labels: dict[int, int]) -> Record:
    """Give objects the labels that ``labels`` has for theirs; those that it has none for become background.

    People and faces stay: who is not an object of the study is anonymized all the same.
    """
    instances = [replace(i, label=labels[i.label]) for i in record.instances if i.label in labels]
    return replace(record, instances=instances)


def decode(masks: list[RLE], size: tuple[int, int]) -> np.ndarray:
    """Decode COCO RLEs to uint8 [N, height, width] of 0 and 1."""
    if not masks:
        return np.zeros((0, *size), np.uint8)
    return np.ascontiguousarray(mask_api.decode(masks).transpose(2, 0, 1))
