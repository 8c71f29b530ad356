"""Average precision of masks as the Cityscapes benchmark defines it."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from faster_coco_eval.core import mask as mask_api

from metrics.base import RecordMetric, check_instances
from metrics.matches import Matches

# As cityscapesscripts' evalInstanceLevelSemanticLabeling.py has them for objects at any distance.
OVERLAPS = np.arange(0.5, 1.0, 0.05)
MIN_REGION_SIZE = 100  # pixels


class CityscapesAP(RecordMetric):
    """Average precision of masks as the Cityscapes benchmark defines it, in percent.

    Equal to cityscapesscripts' `evaluation/evalInstanceLevelSemanticLabeling.py`. It differs from COCO's AP:
    an object is matched by the predictions of its class that overlap it by more than the threshold; the one
    with the highest score is right, the others are wrong. Any other prediction is wrong too, unless the share
    of its pixels on void, on groups of its class and on objects of its class under 100 pixels is above the
    threshold. All predictions count, however many, and the precision is not interpolated. (Where every
    prediction of a class is left out, the AP is 0 here; the script ends in an IndexError.)

    `update(predictions, targets)` takes one dict per image. Masks are RLEs of the whole image, counts as
    bytes (see `metrics.rle`). Tensors may be on any device.

    A prediction has
    - `scores`: float `[N]`,
    - `labels`: int64 `[N]`,
    - `masks`: list of N RLEs; empty ones are left out.

    A target says what is in the image's `*_instanceIds.png`:
    - `image_id`: str, unique in the dataset,
    - `size`: `(height, width)`,
    - `labels`: int64 `[M]`,
    - `masks`: list of M RLEs, of which no two share a pixel,
    - `iscrowd`: bool `[M]`, true for groups ("cargroup"), the pixels whose value is the id of the class
      itself; the groups of a class may come in any number of pieces,
    - `void`: RLE of the pixels whose value is the id of a class with `ignoreInEval` in cityscapesscripts'
      `helpers/labels.py`, or None. (Ids are under 1000: a group of caravans is void, a single one is not.)

    `compute()` returns `segm/AP` (mean over the overlaps .50:.05:.95 and the classes), `segm/AP50`, and for
    each class `segm/AP_<class>` and `segm/AP50_<class>`. A class without objects is NaN and not in the mean.

    Args:
        classes: labels of the classes to evaluate -> their names. Other labels are left out, on both sides.

    Raises:
        ValueError: for instances of unequal number, or a mask that is not of the image's size.

    Example:
        >>> from metrics.rle import encode
        >>> metric = CityscapesAP({1: "person", 2: "car"})
        >>> person = encode(np.ones((1, 20, 10), bool))
        >>> label = torch.tensor([1])
        >>> prediction = {"scores": torch.tensor([0.9]), "labels": label, "masks": person}
        >>> target = {"image_id": "ulm_000000_000019", "size": (20, 10), "labels": label, "masks": person}
        >>> target |= {"iscrowd": torch.tensor([False]), "void": None}
        >>> metric.update([prediction], [target])
        >>> metric.compute()["segm/AP_person"]
        100.0
    """

    def __init__(self, classes: Mapping[int, str]) -> None:
        super().__init__(
            {
                "labels": "int64",
                "scores": "float64",
                "overlaps": "float64",  # each prediction's IoU with its object, if above OVERLAPS[0]
                "objects": "int64",  # index of that object
                "ignored": "float64",  # share of each prediction's pixels
                "object_labels": "int64",
                "object_counts": "bool",  # whether the object is to be found: not a group, not too small
            }
        )
        self.classes = dict(classes)

    def update(self, predictions: Sequence[dict], targets: Sequence[dict]) -> None:
        """Takes the predictions and the ground truth of some images, as the class describes them."""
        for prediction, target in zip(predictions, targets, strict=True):
            image_id, size = target["image_id"], target["size"]
            void = [target["void"]] if target["void"] else []
            check_instances(prediction, ["labels", "masks", "scores"], size, f"prediction of image {image_id}")
            check_instances(target, ["labels", "masks", "iscrowd"], size, f"target of image {image_id}")
            check_instances({"masks": void}, ["masks"], size, f"void of image {image_id}")
            overlaps = _overlaps(
                prediction["masks"],
                prediction["labels"].cpu().numpy(),
                target["masks"],
                target["labels"].cpu().numpy(),
                target["iscrowd"].cpu().numpy(),
                void,
            )
            self.add_record(image_id, labels=prediction["labels"], scores=prediction["scores"], **overlaps)

    def compute(self) -> dict[str, float]:
        """Every average precision in percent, under the names that the class describes."""
        matches = self._matches()
        self.matches = [matches]
        ap = np.full((len(self.classes), len(OVERLAPS)), np.nan)
        for label, total in enumerate(matches.objects[0].sum(axis=1)):
            own = matches.label == label
            right, wrong = matches.right[own, 0], matches.wrong[own, 0]
            for index in range(len(OVERLAPS)):
                ap[label, index] = _average_precision(matches.score[own], right[:, index], wrong[:, index], total)
        ap = torch.from_numpy(100 * ap)
        results = {"segm/AP": ap.nanmean(), "segm/AP50": ap[:, 0].nanmean()}
        for name, of_class in zip(self.classes.values(), ap, strict=True):
            results |= {f"segm/AP_{name}": of_class.mean(), f"segm/AP50_{name}": of_class[0]}
        return {name: value.item() for name, value in results.items()}

    def _matches(self) -> Matches:
        images, records = zip(*self.sorted_records().items(), strict=True)
        columns = {name: np.concatenate([record[name] for record in records]) for name in records[0]}
        predictions, objects = ([len(r[name]) for r in records] for name in ("labels", "object_labels"))
        image, object_image = (np.repeat(np.arange(len(images)), numbers) for numbers in (predictions, objects))
        # From the index among the objects of the image to that among the objects of all images.
        columns["objects"] += np.repeat(np.cumsum([0, *objects[:-1]]), predictions)
        outcomes = np.array([_outcomes(columns, threshold) for threshold in OVERLAPS])
        to_find = [columns["object_counts"] & (columns["object_labels"] == label) for label in self.classes]
        label = np.select([columns["labels"] == label for label in self.classes], range(len(self.classes)), -1)
        order = np.lexsort((-columns["scores"], label))[np.count_nonzero(label < 0) :]
        return Matches(
            "segm",
            "cityscapes",
            images=list(images),
            classes=list(self.classes.values()),
            areas=["all"],
            label=label[order].astype(np.uint16),
            image=image[order].astype(np.int32),
            score=columns["scores"][order],
            right=outcomes[:, 0, order].T[:, None],
            wrong=outcomes[:, 1, order].T[:, None],
            objects=np.array(
                [[np.bincount(object_image[found], minlength=len(images)) for found in to_find]], np.int32
            ),
        )


def _overlaps(
    masks: list[dict],
    labels: np.ndarray,
    object_masks: list[dict],
    object_labels: np.ndarray,
    is_group: np.ndarray,
    void: list[dict],
) -> dict[str, np.ndarray]:
    """The overlaps of one image's predictions with its objects, as the columns of its record."""
    # instanceIds.png has one value for all groups of a class: they are one region.
    groups = np.unique(object_labels[is_group])
    regions = [mask for mask, group in zip(object_masks, is_group, strict=True) if not group]
    for label in groups:
        pieces = np.flatnonzero(is_group & (object_labels == label))
        regions.append(mask_api.merge([object_masks[index] for index in pieces]))
    region_labels = np.append(object_labels[~is_group], groups)
    is_group = np.arange(len(regions)) >= len(regions) - len(groups)

    areas, region_areas = _areas(masks), _areas(regions)
    is_small = region_areas < MIN_REGION_SIZE
    shared = _intersections(masks, regions) * (labels[:, None] == region_labels)
    ious = shared / np.maximum(areas[:, None] + region_areas - shared, 1)
    # One at most in a row, as the regions share no pixel.
    hits, hit_regions = np.nonzero(ious > OVERLAPS[0])
    overlaps, objects = np.zeros(len(masks)), np.zeros(len(masks), np.int64)
    overlaps[hits], objects[hits] = ious[hits, hit_regions], hit_regions
    # The script counts the pixels of a small group twice.
    ignored = _intersections(masks, void).sum(axis=1) + shared @ (is_group.astype(int) + is_small)
    return {
        "overlaps": overlaps,
        "objects": objects,
        "ignored": np.divide(ignored, areas, out=np.ones(len(masks)), where=areas > 0),
        "object_labels": region_labels,
        "object_counts": ~is_group & ~is_small,
    }


def _areas(masks: list[dict]) -> np.ndarray:
    return mask_api.area(masks).astype(np.int64)


def _intersections(masks: list[dict], regions: list[dict]) -> np.ndarray:
    """Number of common pixels, int64 `[N, M]`."""
    # The "IoU" with a crowd is the intersection over the area of the mask.
    shares = np.reshape(mask_api.iou(masks, regions, [1] * len(regions)), (len(masks), len(regions)))
    return np.rint(shares * _areas(masks)[:, None]).astype(np.int64)


def _outcomes(columns: dict[str, np.ndarray], threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Which predictions are right, and which are wrong; the others do not count."""
    scores, objects = columns["scores"], columns["objects"]
    hit = columns["overlaps"] > threshold
    missed = ~hit & (columns["ignored"] <= threshold)
    hit[hit] = columns["object_counts"][objects[hit]]  # the others are neither right nor wrong

    best_first = np.flatnonzero(hit)[np.argsort(-scores[hit], kind="stable")]
    _, first = np.unique(objects[best_first], return_index=True)
    right = np.zeros(len(scores), bool)
    right[best_first[first]] = True
    return right, (hit & ~right) | missed


def _average_precision(scores: np.ndarray, right: np.ndarray, wrong: np.ndarray, total: int) -> float:
    """The area under the precision-recall curve of a class; NaN if it has no object that counts."""
    if total == 0:
        return float("nan")
    counted = right | wrong
    order = np.argsort(scores[counted])
    _, from_score = np.unique(scores[counted][order], return_index=True)
    # Over the thresholds on the score, rising; the last point, without predictions, is by definition.
    true_positives = np.cumsum(right[counted][order][::-1])[::-1][from_score]
    precision = np.append(true_positives / (np.count_nonzero(counted) - from_score), 1.0)
    recall = np.append(true_positives / total, 0.0)
    step_widths = np.convolve(np.concatenate([recall[:1], recall, [0.0]]), [-0.5, 0.0, 0.5], "valid")
    return float(precision @ step_widths)
