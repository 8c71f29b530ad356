"""What became of every detection: of these facts the average precision of any resample of the images is made."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise, product
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from errors import UserError
from outputs import replacing

THRESHOLDS = 10  # on the IoU: .50:.05:.95
RECALLS = np.linspace(0, 1, 101)  # at which COCO's AP takes the precision, as pycocotools' Params
AT_A_TIME = 4_000_000  # detections times resamples: bounds the memory


@dataclass(frozen=True)
class Matches:
    """The detections of one IoU type on all images, and what became of each.

    A detection is right (it finds an object, as the first), wrong, or does not count, for each area range and each
    threshold on the IoU. Each image is matched on its own, so this is all that the AP of any multiset of the images
    depends on. The detections come class by class with falling score; of equal ones first those that the metric
    has first.

    Attributes:
        iou_type: "bbox", "segm" or "keypoints".
        definition: of the AP, "coco" or "cityscapes".
        images: ids of the I images, in the metric's order.
        classes: names of the C classes.
        areas: names of the A area ranges, the first of which has all objects.
        label: index of each detection's class, uint16 `[N]`.
        image: index of its image, int32 `[N]`.
        score: float64 `[N]`.
        right: bool `[N, A, 10]`.
        wrong: bool `[N, A, 10]`.
        objects: how many there are to be found, int32 `[A, C, I]`.
    """

    iou_type: str
    definition: str
    images: Sequence[str]
    classes: Sequence[str]
    areas: Sequence[str]
    label: np.ndarray
    image: np.ndarray
    score: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    objects: np.ndarray

    def average_precision(self, weights: np.ndarray, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """What the metric would be if each image were there a number of times, in percent.

        Copies of a detection stand together: COCO's AP depends on the order of detections with the same score.

        Args:
            weights: how often each image is there, int `[R, I]`, in each of R resamples.
            names: which average precisions, of those that the metric has; all by default.

        Returns:
            float64 `[R]` by name; NaN where there is nothing to be found.
        """
        parts = {name: part for name, part in self._parts().items() if names is None or name in names}
        weights = weights.astype(np.int32)
        ap = np.full((len(weights), len(self.classes), len(self.areas), THRESHOLDS), np.nan)
        classes = pairwise(np.searchsorted(self.label, np.arange(len(self.classes) + 1)).tolist())
        for label, (start, stop) in enumerate(classes):
            own, step = slice(start, stop), max(1, AT_A_TIME // max(1, stop - start))
            for area, first in product({area for _, area, _ in parts.values()}, range(0, len(weights), step)):
                some = slice(first, first + step)
                total = weights[some] @ self.objects[area, label]
                detections = self.image[own], self.score[own], self.right[own, area], self.wrong[own, area]
                ap[some, label, area] = _average_precision(self.definition, weights[some], *detections, total)
        return {n: _mean(ap[:, classes, area, thresholds]) for n, (classes, area, thresholds) in parts.items()}

    def images_with_objects(self, name: str) -> int:
        """Count the images on which there is something to be found, as one of the average precisions has it."""
        classes, area, _ = self._parts()[name]
        return int(np.count_nonzero(self.objects[area, classes].any(axis=0)))

    def _parts(self) -> dict[str, tuple[slice, int, slice]]:
        """The classes, area range and thresholds over which each average precision is the mean."""
        every, at_50, at_75 = slice(None), slice(0, 1), slice(5, 6)
        parts = {"AP": (every, 0, every), "AP50": (every, 0, at_50)}
        if self.definition == "coco":
            parts["AP75"] = (every, 0, at_75)
        parts |= {f"AP_{name}": (every, area, every) for area, name in enumerate(self.areas) if area > 0}
        if self.iou_type != "keypoints":
            parts |= {f"AP_{name}": (slice(label, label + 1), 0, every) for label, name in enumerate(self.classes)}
        if self.definition == "cityscapes":
            parts |= {f"AP50_{name}": (slice(label, label + 1), 0, at_50) for label, name in enumerate(self.classes)}
        return {f"{self.iou_type}/{name}": part for name, part in parts.items()}


def _mean(ap: np.ndarray) -> np.ndarray:
    """The mean of the classes that have objects, `[R, C, T]` to `[R]` in percent."""
    defined = np.count_nonzero(~np.isnan(ap), axis=(1, 2))
    return 100 * np.divide(np.nansum(ap, axis=(1, 2)), defined, out=np.full(len(ap), np.nan), where=defined > 0)


def _average_precision(
    definition: str,
    weights: np.ndarray,
    image: np.ndarray,
    score: np.ndarray,
    right: np.ndarray,
    wrong: np.ndarray,
    total: np.ndarray,
) -> np.ndarray:
    """The AP of one class in one area range, as a share, float64 `[R, T]`; NaN where there is no object.

    Only right detections change the recall, so the curve is looked at there alone.

    Args:
        definition: "coco" or "cityscapes".
        weights: int32 `[R, I]`.
        image: of the class's detections with falling score, `[n]`.
        score: `[n]`.
        right: bool `[n, T]`.
        wrong: bool `[n, T]`.
        total: number of objects, `[R]`.
    """
    counts = right | wrong
    always = counts.all(axis=1)  # most count at each threshold or at none, and are summed once
    always_counts = _Sums(weights, image, np.flatnonzero(always))
    ap = np.empty((len(weights), right.shape[1]))
    for threshold in range(right.shape[1]):
        finds = np.flatnonzero(right[:, threshold])
        found = _Sums(weights, image, finds)
        sometimes_counts = _Sums(weights, image, np.flatnonzero(counts[:, threshold] & ~always))
        sums = found, always_counts, sometimes_counts
        if definition == "coco":
            # As pycocotools' accumulate: at 101 recalls the highest precision from there on.
            highest = np.maximum.accumulate(_precision(finds + 1, *sums)[:, ::-1], axis=1)[:, ::-1]
            recall = found.before(finds + 1) / np.maximum(total, 1)[:, None]
            passed = np.diff(np.searchsorted(RECALLS, recall, side="right"), axis=1, prepend=0)
            ap[:, threshold] = (highest * passed).sum(axis=1) / len(RECALLS)
        else:
            # cityscapesscripts' step widths make it the trapezoid rule, from each score to the next.
            start, stop = (np.searchsorted(-score, -score[finds], side) for side in ("left", "right"))
            height = (_precision(start, *sums, of_none=1) + _precision(stop, *sums)) / 2
            ap[:, threshold] = (height * np.take(weights, image[finds], axis=1)).sum(axis=1) / np.maximum(total, 1)
    ap[total == 0] = np.nan
    return ap


class _Sums:
    """Summed weights of some of a class's detections."""

    def __init__(self, weights: np.ndarray, image: np.ndarray, rows: np.ndarray) -> None:
        self._rows = rows
        self._sums = np.zeros((len(weights), len(rows) + 1), np.int32)
        np.cumsum(np.take(weights, image[rows], axis=1), axis=1, out=self._sums[:, 1:])

    def before(self, stops: np.ndarray) -> np.ndarray:
        """The sum of those before each of the detections, `[R, len(stops)]`."""
        return self._sums[:, np.searchsorted(self._rows, stops)]


def _precision(
    stops: np.ndarray, found: _Sums, always_counts: _Sums, sometimes_counts: _Sums, of_none: float = 0
) -> np.ndarray:
    """The precision of the detections before each of `stops`, `[R, len(stops)]`."""
    number = always_counts.before(stops) + sometimes_counts.before(stops)
    return np.divide(found.before(stops), number, out=np.full(number.shape, float(of_none)), where=number > 0)


def write_matches(path: Path, matches: Sequence[Matches]) -> None:
    """Write a ``.npz`` file, so that a reader finds all of it or none; `numpy.load` reads it without pickle.

    Args:
        path: the file.
        matches: one for each IoU type.
    """
    arrays = {}
    for one in matches:
        values = {field.name: np.asarray(getattr(one, field.name)) for field in fields(one)}
        values |= {name: np.packbits(values[name]) for name in ("right", "wrong")}
        arrays |= {f"{one.iou_type}/{name}": value for name, value in values.items()}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_matches(path: Path) -> list[Matches]:
    """Read what `write_matches` wrote.

    Raises:
        UserError: it is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [_read(arrays, name.split("/")[0]) for name in arrays.files if name.endswith("/iou_type")]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise UserError(f"{path}: not the per-image results of train.py: {error}") from None


def _read(arrays: Mapping[str, np.ndarray], iou_type: str) -> Matches:
    values = {field.name: arrays[f"{iou_type}/{field.name}"] for field in fields(Matches)}
    values |= {name: values[name].tolist() for name in ("iou_type", "definition", "images", "classes", "areas")}
    shape = len(values["score"]), len(values["areas"]), THRESHOLDS
    for name in ("right", "wrong"):
        bits = np.unpackbits(values[name], count=math.prod(shape))
        values[name] = bits.reshape(shape).astype(bool)
    return Matches(**values)
