"""COCO average precision of boxes, masks and keypoints."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core import mask as mask_api
from torch import Tensor

from metrics.base import RecordMetric, check_instances
from metrics.matches import THRESHOLDS, Matches

MAX_DETECTIONS = {"bbox": 100, "segm": 100, "keypoints": 20}  # per image and class, as pycocotools' Params


class CocoAP(RecordMetric):
    """Average precision as COCO defines it, in percent, by faster-coco-eval; equal to pycocotools.

    `update(predictions, targets)` takes one dict per image. Boxes are `(x0, y0, x1, y1)` and keypoints
    `(x, y, visibility)`, in pixels of the image; masks are RLEs of the whole image, counts as bytes (see
    `metrics.rle`). Tensors may be on any device.

    | prediction  |                                  | needed for |
    | ---         | ---                              | ---        |
    | `boxes`     | float `[N, 4]`                   | always     |
    | `scores`    | float `[N]`, also for keypoints  | always     |
    | `labels`    | int64 `[N]`                      | always     |
    | `masks`     | list of N RLEs                   | segm       |
    | `keypoints` | float `[N, 17, 3]`               | keypoints  |

    | target      |                                                            | needed for |
    | ---         | ---                                                        | ---        |
    | `image_id`  | str, unique in the dataset                                 | always     |
    | `size`      | `(height, width)`                                          | always     |
    | `boxes`     | float `[M, 4]`                                             | always     |
    | `labels`    | int64 `[M]`                                                | always     |
    | `iscrowd`   | bool `[M]`: a region in which detections are not counted   | always     |
    | `area`      | float `[M]`, the annotation's own, for small/medium/large  | always     |
    | `masks`     | list of M RLEs                                             | segm       |
    | `keypoints` | float `[M, 17, 3]`, those with visibility 0 not labelled   | keypoints  |

    `compute()` returns, for every IoU type, `bbox/AP` (mean over the IoUs .50:.05:.95 and the classes),
    `bbox/AP50`, `bbox/AP75`, `bbox/AP_s`, `bbox/AP_m`, `bbox/AP_l`, and `bbox/AP_<class>`; keypoints have no
    `AP_s` and no classes. What has no ground truth is NaN. Annotations without a labelled keypoint are
    ignored by the keypoint AP.

    Args:
        iou_types: which of "bbox", "segm" and "keypoints" to evaluate.
        classes: labels of the classes to evaluate -> their names. Other labels are left out, on both sides.

    Raises:
        ValueError: for an IoU type that is none, instances of unequal number, a mask not of the image's size.

    Example:
        >>> metric = CocoAP(["bbox"], {1: "person"})
        >>> boxes = torch.tensor([[10.0, 20.0, 50.0, 100.0]])
        >>> label = torch.tensor([1])
        >>> prediction = {"boxes": boxes, "scores": torch.tensor([0.9]), "labels": label}
        >>> target = {"image_id": "0001", "size": (120, 160), "boxes": boxes, "labels": label}
        >>> target |= {"iscrowd": torch.tensor([False]), "area": torch.tensor([2400.0])}
        >>> metric.update([prediction], [target])
        >>> round(metric.compute()["bbox/AP_person"], 1)
        100.0
    """

    def __init__(self, iou_types: Sequence[str], classes: Mapping[int, str]) -> None:
        if not iou_types or not set(iou_types) <= set(MAX_DETECTIONS):
            raise ValueError(f"iou_types: must be some of {list(MAX_DETECTIONS)}, is {list(iou_types)}")
        instances = {"labels": "int64", "boxes": "float64"}
        if "segm" in iou_types:
            instances |= {"mask_counts": "uint8", "mask_lengths": "int64"}
        if "keypoints" in iou_types:
            instances |= {"keypoints": "float64"}
        columns = {"size": "int64", "scores": "float64", "iscrowd": "bool", "area": "float64"}
        for side in ("prediction", "target"):
            columns |= {f"{side}_{name}": dtype for name, dtype in instances.items()}
        super().__init__(columns)
        self.iou_types = tuple(iou_types)
        self.classes = dict(classes)

    def update(self, predictions: Sequence[dict], targets: Sequence[dict]) -> None:
        """Takes the predictions and the ground truth of some images, as the class describes them."""
        names = ["boxes", "labels"]
        names += ["masks"] if "segm" in self.iou_types else []
        names += ["keypoints"] if "keypoints" in self.iou_types else []
        for prediction, target in zip(predictions, targets, strict=True):
            image_id, size = target["image_id"], target["size"]
            check_instances(prediction, [*names, "scores"], size, f"prediction of image {image_id}")
            check_instances(target, [*names, "iscrowd", "area"], size, f"target of image {image_id}")
            self.add_record(
                image_id,
                size=torch.tensor(size),
                scores=prediction["scores"],
                iscrowd=target["iscrowd"],
                area=target["area"],
                **_columns("prediction", prediction, names),
                **_columns("target", target, names),
            )

    def compute(self) -> dict[str, float]:
        """Every average precision in percent, under the names that the class describes."""
        records = self.sorted_records()
        results, self.matches = {}, []
        for iou_type in self.iou_types:
            evaluator = self._evaluate(iou_type, list(records.values()))
            results |= self._average_precision(iou_type, evaluator)
            self.matches.append(self._matches(iou_type, evaluator, records))
        return results

    def _evaluate(self, iou_type: str, records: list[dict[str, np.ndarray]]) -> COCOeval_faster:
        evaluator = COCOeval_faster(
            self._dataset("target", iou_type, records),
            self._dataset("prediction", iou_type, records),
            iou_type,
            separate_eval=True,  # keeps the matches
        )
        evaluator.params.catIds = sorted(self.classes)
        evaluator.params.maxDets = [MAX_DETECTIONS[iou_type]]
        evaluator.evaluate()
        evaluator.accumulate()
        return evaluator

    def _average_precision(self, iou_type: str, evaluator: COCOeval_faster) -> dict[str, float]:
        params = evaluator.params
        precision = evaluator.eval["precision"][..., 0]  # [IoU, recall, class, area]

        results = {
            f"{iou_type}/AP": _percent(precision[:, :, :, 0]),
            f"{iou_type}/AP50": _percent(precision[0, :, :, 0]),
            f"{iou_type}/AP75": _percent(precision[5, :, :, 0]),
        }
        for index, area in enumerate(params.areaRngLbl[1:], start=1):
            results[f"{iou_type}/AP_{area[0]}"] = _percent(precision[:, :, :, index])
        if iou_type != "keypoints":
            for index, label in enumerate(params.catIds):
                results[f"{iou_type}/AP_{self.classes[label]}"] = _percent(precision[:, :, index, 0])
        return results

    def _matches(self, iou_type: str, evaluator: COCOeval_faster, records: dict[str, dict[str, np.ndarray]]) -> Matches:
        classes, areas = evaluator.params.catIds, [label[0] for label in evaluator.params.areaRngLbl]
        objects = np.zeros((len(areas), len(classes), len(records)), np.int32)
        evaluations = np.array(evaluator._evalImgs_cpp).reshape(len(classes), len(areas), len(records))
        is_there = [np.isin(classes, [*r["target_labels"], *r["prediction_labels"]]) for r in records.values()]
        pairs = np.argwhere(np.transpose(is_there))
        scores, matched, ignored = [], [], []
        for label, image in pairs:
            # What is pickled of them is all that Python can read of them.
            states = [evaluation.__getstate__() for evaluation in evaluations[label, :, image]]
            object_ids, _, scores_of_pair, ignored_objects, ignored_of_pair, _ = zip(*states, strict=True)
            objects[:, label, image] = [len(flags) - sum(flags) for flags in ignored_objects]
            shape = len(areas), THRESHOLDS, len(scores_of_pair[0])
            scores.append(np.array(scores_of_pair[0]))
            matched.append(np.array(object_ids).reshape(shape) > 0)
            ignored.append(np.array(ignored_of_pair, bool).reshape(shape))
        label, image = np.repeat(pairs, [len(s) for s in scores], axis=0).T
        score = np.concatenate([[], *scores])
        none = np.zeros((len(areas), THRESHOLDS, 0), bool)
        matched, ignored = (np.concatenate([none, *parts], axis=2).transpose(2, 0, 1) for parts in (matched, ignored))
        order = np.lexsort((-score, label))
        return Matches(
            iou_type,
            "coco",
            images=list(records),
            classes=[self.classes[label] for label in classes],
            areas=areas,
            label=label[order].astype(np.uint16),
            image=image[order].astype(np.int32),
            score=score[order],
            right=(matched & ~ignored)[order],
            wrong=~(matched | ignored)[order],
            objects=objects,
        )

    def _dataset(self, side: str, iou_type: str, records: list[dict[str, np.ndarray]]) -> COCO:
        images, annotations = [], []
        for image_id, record in enumerate(records, start=1):
            size = record["size"].tolist()
            images.append({"id": image_id, "height": size[0], "width": size[1]})
            for annotation in _annotations(side, iou_type, record):
                # Ids start at 1: 0 would mean "not matched".
                annotations.append(annotation | {"id": len(annotations) + 1, "image_id": image_id})
        categories = [{"id": label, "name": name} for label, name in self.classes.items()]
        return COCO({"images": images, "annotations": annotations, "categories": categories})


def _columns(side: str, instances: dict, names: Sequence[str]) -> dict[str, Tensor | bytes]:
    """The columns of a record for the instances of one side."""
    columns = {name: instances[name] for name in names}
    if "masks" in columns:
        counts = [mask["counts"] for mask in columns.pop("masks")]
        columns["mask_counts"] = b"".join(counts)
        columns["mask_lengths"] = torch.tensor([len(count) for count in counts])
    return {f"{side}_{name}": value for name, value in columns.items()}


def _annotations(side: str, iou_type: str, record: dict[str, np.ndarray]) -> list[dict]:
    """The instances of one side as COCO annotations."""
    boxes = record[f"{side}_boxes"].reshape(-1, 4)
    boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)  # x0, y0, width, height
    columns = {"category_id": record[f"{side}_labels"].tolist(), "bbox": boxes.tolist()}
    if iou_type == "segm":
        size, counts = record["size"].tolist(), record[f"{side}_mask_counts"].tobytes()
        ends = np.cumsum(record[f"{side}_mask_lengths"]).tolist()
        columns["segmentation"] = [{"size": size, "counts": counts[a:b]} for a, b in pairwise([0, *ends])]
    if iou_type == "keypoints":
        keypoints = record[f"{side}_keypoints"].reshape(-1, 17, 3)
        columns["keypoints"] = keypoints.reshape(-1, 51).tolist()
        columns["num_keypoints"] = np.count_nonzero(keypoints[:, :, 2] > 0, axis=1).tolist()
    if side == "target":
        columns |= {"area": record["area"].tolist(), "iscrowd": record["iscrowd"].astype(int).tolist()}
    else:
        # The areas that pycocotools' loadRes gives to results.
        if iou_type == "segm":
            area = mask_api.area(columns["segmentation"])
        elif iou_type == "keypoints":
            area = np.prod(np.ptp(keypoints[:, :, :2], axis=1), axis=1)
        else:
            area = boxes[:, 2] * boxes[:, 3]
        columns |= {"area": area.tolist(), "score": record["scores"].tolist()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _percent(precision: np.ndarray) -> float:
    """The mean in percent; a precision of -1 stands for no ground truth."""
    defined = precision[precision > -1]
    return 100 * float(defined.mean()) if defined.size else float("nan")
