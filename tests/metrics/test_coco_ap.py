import doctest
import math

import numpy as np
import pytest
import torch
from coco_truth import CLASSES, SIZE, ellipse, pycocotools_ap, random_dataset, random_image
from pycocotools import mask as pycoco_mask

import metrics.coco
from metrics.coco import CocoAP


def ap(predictions, targets, iou_types=("bbox", "segm", "keypoints"), classes=CLASSES, batch_size=3):
    metric = CocoAP(iou_types, classes)
    for start in range(0, len(targets), batch_size):
        metric.update(predictions[start : start + batch_size], targets[start : start + batch_size])
    return metric.compute()


@pytest.mark.parametrize("seed", range(12))
def test_equals_pycocotools(seed):
    predictions, targets = random_dataset(seed)
    result = ap(predictions, targets)
    expected = {}
    for iou_type in ("bbox", "segm", "keypoints"):
        expected |= pycocotools_ap(iou_type, predictions, targets, CLASSES)
    assert result == pytest.approx(expected, rel=0, abs=1e-9, nan_ok=True)
    assert result["bbox/AP"] > 0


def test_equals_pycocotools_beyond_the_number_of_detections_that_count():
    rng = np.random.default_rng(0)
    predictions, targets = zip(*(random_image(str(i), rng, max_objects=200) for i in range(4)), strict=True)
    one_class = {1: "person"}
    for side in (*predictions, *targets):
        side["labels"] = torch.ones_like(side["labels"])
    assert max(len(prediction["labels"]) for prediction in predictions) > 100
    for iou_type in ("bbox", "segm", "keypoints"):
        expected = pycocotools_ap(iou_type, predictions, targets, one_class)
        assert ap(predictions, targets, [iou_type], one_class) == pytest.approx(expected, rel=0, abs=1e-9)


def test_keypoints_are_scored_by_their_box_whatever_their_visibility():
    """As torchvision's references and detectron2 do: Keypoint R-CNN's ``keypoints_scores`` only say how sure a heatmap
    is, and its visibility is always 1."""
    predictions, targets = random_dataset(0)
    expected = ap(predictions, targets, ["keypoints"])
    visible = [p | {"keypoints": p["keypoints"].clone()} for p in predictions]
    for prediction in visible:
        prediction["keypoints"][..., 2] = 1
        prediction["keypoints_scores"] = torch.rand(prediction["keypoints"].shape[:2])
    assert ap(visible, targets, ["keypoints"]) == expected
    assert pycocotools_ap("keypoints", visible, targets, CLASSES) == pytest.approx(expected, rel=0, abs=1e-9)
    reversed_scores = [p | {"scores": 1 - p["scores"]} for p in visible]
    assert ap(reversed_scores, targets, ["keypoints"])["keypoints/AP"] != expected["keypoints/AP"]


def without_instances(side: dict) -> dict:
    return {key: value if key in ("image_id", "size") else value[:0] for key, value in side.items()}


def test_no_predictions_is_zero_and_no_ground_truth_is_undefined():
    predictions, targets = random_dataset(0, images=40)
    missed = ap([without_instances(prediction) for prediction in predictions], targets)
    assert set(missed.values()) == {0.0}
    undefined = ap(predictions, [without_instances(target) for target in targets])
    assert all(math.isnan(value) for value in undefined.values())
    assert undefined.keys() == missed.keys()


def test_perfect_predictions_of_the_classes_that_are_there():
    _, targets = random_dataset(3)
    targets = [target | {"labels": target["labels"].clamp(max=2)} for target in targets]
    predictions = [target | {"scores": torch.ones(len(target["labels"]))} for target in targets]
    result = ap(predictions, targets, ["bbox", "segm"])
    absent = {f"{iou_type}/AP_{name}" for iou_type in ("bbox", "segm") for name in ("car", "train")}
    assert {name for name, value in result.items() if math.isnan(value)} == absent
    assert {round(value, 9) for name, value in result.items() if name not in absent} == {100.0}


def test_a_class_left_out_changes_no_other_class():
    predictions, targets = random_dataset(1)
    every, fewer = (ap(predictions, targets, ["bbox"], classes) for classes in (CLASSES, {2: "rider", 3: "car"}))
    for name in ("bbox/AP_rider", "bbox/AP_car"):
        assert fewer[name] == every[name]
    assert fewer["bbox/AP"] == pytest.approx((every["bbox/AP_rider"] + every["bbox/AP_car"]) / 2)


@pytest.mark.parametrize("seed", range(3))
def test_order_batches_and_repetition_of_images_do_not_matter(seed):
    predictions, targets = random_dataset(seed)
    order = np.random.default_rng(seed).permutation(len(targets)).tolist()
    order += order[:2]
    again = ap([predictions[i] for i in order], [targets[i] for i in order], batch_size=5)
    np.testing.assert_equal(again, ap(predictions, targets))


def test_copies_of_an_image_that_differ_do_not_bring_back_the_order():
    predictions, targets = random_dataset(2)
    index = max(range(len(targets)), key=lambda i: len(predictions[i]["labels"]))
    copy = predictions[index] | {"scores": predictions[index]["scores"].flip(0)}
    first = ap([copy, *predictions], [targets[index], *targets])
    np.testing.assert_equal(first, ap([*predictions, copy], [*targets, targets[index]]))


def test_state_is_small_and_of_tensors():
    predictions, targets = random_dataset(4)
    metric = CocoAP(["segm"], CLASSES)
    metric.update(predictions, targets)
    masks = sum(len(side["masks"]) for side in predictions + targets)
    states = [tensor for name in metric._defaults for tensor in getattr(metric, name)]
    assert all(isinstance(state, torch.Tensor) for state in states)
    assert sum(state.nbytes for state in states) < 0.02 * masks * SIZE[0] * SIZE[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": [pycoco_mask.encode(np.zeros((5, 4), np.uint8, order="F"))]}, r"masks\[0\].*\(160, 200\)"),
        ({"scores": torch.ones(2)}, "prediction of image 17: .*'scores': 2"),
    ],
)
def test_errors_name_the_image_and_what_is_wrong(change, message):
    box = torch.tensor([[10.0, 10.0, 30.0, 40.0]])
    masks = [ellipse(box[0].numpy())]
    target = {"image_id": "17", "size": SIZE, "boxes": box, "labels": torch.tensor([1]), "masks": masks}
    target |= {"iscrowd": torch.tensor([False]), "area": torch.tensor([500.0])}
    prediction = {"boxes": box, "labels": torch.tensor([1]), "masks": masks, "scores": torch.ones(1)}
    metric = CocoAP(["bbox", "segm"], CLASSES)
    metric.update([prediction], [target])
    with pytest.raises(ValueError, match=message):
        metric.update([prediction | change], [target])


@pytest.mark.parametrize("iou_types", [[], ["bbox", "mask"]])
def test_unknown_iou_types_are_refused(iou_types):
    with pytest.raises(ValueError, match=r"bbox.*segm.*keypoints"):
        CocoAP(iou_types, CLASSES)


def test_example_in_the_docstring():
    assert doctest.testmod(metrics.coco) == (0, 8)
