"""Random datasets, and what pycocotools says of them."""

import contextlib
import io
import math

import numpy as np
import torch
from pycocotools import mask as pycoco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

CLASSES = {1: "person", 2: "rider", 3: "car", 5: "train"}
SIZE = (160, 200)


def ellipse(box: np.ndarray) -> dict:
    """RLE of the ellipse in a box."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    centre, radius = (box[:2] + box[2:]) / 2, np.maximum(box[2:] - box[:2], 1) / 2
    bitmap = ((x - centre[0]) / radius[0]) ** 2 + ((y - centre[1]) / radius[1]) ** 2 <= 1
    return pycoco_mask.encode(np.asfortranarray(bitmap.astype(np.uint8)))


def instances(boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> dict:
    """Boxes, ellipses in them, and keypoints that lie about alike in alike boxes."""
    at = (np.arange(17)[:, None] * [[0.37, 0.61]] % 1 + rng.normal(0, 0.02, (len(boxes), 17, 2))).clip(0, 1)
    keypoints = np.zeros((len(boxes), 17, 3))
    keypoints[..., :2] = boxes[:, None, :2] + at * (boxes[:, None, 2:] - boxes[:, None, :2])
    # In some all labelled keypoints are hidden (1), in some none is labelled.
    keypoints[..., 2] = np.minimum(rng.integers(0, 3, (len(boxes), 17)), rng.integers(0, 3, (len(boxes), 1)))
    return {
        "boxes": torch.from_numpy(boxes),
        "labels": torch.from_numpy(labels),
        "masks": [ellipse(box) for box in boxes],
        "keypoints": torch.from_numpy(keypoints),
    }


def random_image(image_id: str, rng: np.random.Generator, max_objects: int = 8) -> tuple[dict, dict]:
    """A prediction and a target: near and exact hits, duplicates, equal scores, crowds, all sizes."""
    count = rng.integers(0, max_objects + 1)
    sides = rng.choice([8, 24, 60, 130], (count, 2)) * rng.uniform(0.7, 1.3, (count, 2))
    corner = rng.uniform(0, 1, (count, 2)) * np.maximum(np.array(SIZE[::-1]) - sides, 0)
    boxes = np.concatenate([corner, np.minimum(corner + sides, SIZE[::-1])], axis=1)
    labels = rng.choice([*CLASSES, 7], count)  # 7 is no class of the metric
    target = instances(boxes, labels, rng)
    target |= {
        "image_id": image_id,
        "size": SIZE,
        "iscrowd": torch.from_numpy(rng.random(count) < 0.15),
        "area": torch.from_numpy(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) * rng.uniform(0.5, 1, count)),
    }
    source = rng.integers(0, count, rng.integers(0, 2 * count + 1)) if count else np.zeros(0, int)
    jitter = rng.normal(0, 1, (len(source), 4)) * rng.choice([0, 0.05, 0.3], (len(source), 1))
    hits = np.clip(boxes[source] + jitter * np.tile(sides[source], 2), 0, np.tile(SIZE[::-1], 2))
    hits = np.concatenate([np.minimum(hits[:, :2], hits[:, 2:] - 1), hits[:, 2:]], axis=1).clip(0)
    wrong = rng.random(len(source)) < 0.1
    prediction = instances(hits, np.where(wrong, rng.choice([*CLASSES], len(source)), labels[source]), rng)
    prediction["scores"] = torch.from_numpy(rng.choice(np.linspace(0.1, 1, 12), len(source)).astype(np.float32))
    return prediction, target


def random_dataset(seed: int, images: int = 12) -> tuple[list[dict], list[dict]]:
    rng = np.random.default_rng(seed)
    ids = rng.choice(2000, images, replace=False)
    pairs = [random_image(str(image_id), rng) for image_id in ids]
    return [prediction for prediction, _ in pairs], [target for _, target in pairs]


def annotations(side: dict, image_id: int) -> list[dict]:
    boxes = side["boxes"].double().numpy()
    return [
        {
            "image_id": image_id,
            "category_id": int(side["labels"][i]),
            "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
            "segmentation": side["masks"][i],
            "keypoints": side["keypoints"][i].double().flatten().tolist(),
        }
        for i, box in enumerate(boxes)
    ]


def pycocotools_ap(iou_type: str, predictions: list[dict], targets: list[dict], classes: dict[int, str]) -> dict:
    """What pycocotools says, by its own summary where there is one."""
    truth, results = [], []
    for prediction, target in zip(predictions, targets, strict=True):
        image_id = int(target["image_id"])
        for index, annotation in enumerate(annotations(target, image_id)):
            visible = target["keypoints"][index, :, 2] > 0
            annotation |= {"iscrowd": int(target["iscrowd"][index]), "area": float(target["area"][index])}
            truth.append(annotation | {"id": len(truth) + 1, "num_keypoints": int(visible.sum())})
        key = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}[iou_type]
        for index, annotation in enumerate(annotations(prediction, image_id)):
            result = {name: annotation[name] for name in ("image_id", "category_id", key)}
            results.append(result | {"score": float(prediction["scores"][index])})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": int(t["image_id"]), "height": t["size"][0], "width": t["size"][1]} for t in targets],
            "annotations": truth,
            "categories": [{"id": label, "name": name} for label, name in classes.items()],
        }
        coco.createIndex()
        if results:
            detections = coco.loadRes(results)
        else:
            detections = COCO()
            detections.dataset = coco.dataset | {"annotations": []}
            detections.createIndex()
        evaluator = COCOeval(coco, detections, iou_type)
        evaluator.params.catIds = sorted(classes)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    names = ["AP", "AP50", "AP75"] + (["AP_m", "AP_l"] if iou_type == "keypoints" else ["AP_s", "AP_m", "AP_l"])
    expected = dict(zip(names, evaluator.stats, strict=False))
    if iou_type != "keypoints":
        for index, label in enumerate(sorted(classes)):
            precision = evaluator.eval["precision"][:, :, index, 0, -1]
            expected[f"AP_{classes[label]}"] = precision[precision > -1].mean() if (precision > -1).any() else -1
    return {f"{iou_type}/{k}": math.nan if v == -1 else 100 * v for k, v in expected.items()}
