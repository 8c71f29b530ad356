import doctest

import numpy as np
import pytest
from cityscapes_truth import (
    CLASSES,
    IDS,
    SIZE,
    prediction_of,
    random_dataset,
    rectangle,
    script_ap,
    target_of,
)

import metrics.cityscapes
from metrics.cityscapes import CityscapesAP
from metrics.rle import encode


def ap(predictions: list[dict], instance_ids: list[np.ndarray], classes=CLASSES) -> dict[str, float]:
    metric = CityscapesAP(classes)
    for index, (prediction, ids) in enumerate(zip(predictions, instance_ids, strict=True)):
        metric.update([prediction], [target_of(ids, f"ulm_{index:06}_000019")])
    return metric.compute()


def assert_equal(result: dict, expected: dict) -> None:
    assert result == pytest.approx(expected, rel=0, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("seed", range(12))
def test_equals_cityscapesscripts(seed, tmp_path):
    predictions, instance_ids = random_dataset(seed)
    result = ap(predictions, instance_ids)
    assert_equal(result, script_ap(predictions, instance_ids, tmp_path))
    assert 0 < result["segm/AP"] < 100


@pytest.mark.parametrize("scores", [[0.5], [0.3, 0.5]])
def test_equal_scores_and_predictions_that_come_twice(scores, tmp_path):
    rng = np.random.default_rng(len(scores))
    predictions, instance_ids = random_dataset(30, images=8)
    for index, prediction in enumerate(predictions):
        rows = np.tile(np.arange(len(prediction["labels"])), 2)
        bitmaps, labels = prediction["bitmaps"][rows], prediction["labels"][rows].tolist()
        predictions[index] = prediction_of(list(bitmaps), labels, rng.choice(scores, len(rows)).tolist())
    result = ap(predictions, instance_ids)
    assert_equal(result, script_ap(predictions, instance_ids, tmp_path))
    assert 0 < result["segm/AP"] < 50


def scene(*regions: tuple[slice, slice, int]) -> np.ndarray:
    """instanceIds.png of a road with rectangles on it: (rows, columns, value)."""
    ids = np.full(SIZE, IDS["road"], np.uint16)
    for rows, columns, value in regions:
        ids[rows, columns] = value
    return ids


def bitmap(rows: slice, columns: slice) -> np.ndarray:
    return scene((rows, columns, 1)) == 1


CAR = IDS["car"] * 1000
FOUND = (slice(60, 90), slice(100, 140), CAR)  # a car that is found, so that the curve shows what else counts


@pytest.mark.parametrize("region", [IDS["car"], CAR + 7, IDS["caravan"], IDS["caravan"] * 1000, IDS["dynamic"]])
@pytest.mark.parametrize("area", [(4, 10), (9, 11), (10, 10), (12, 12)])  # under and from 100 pixels
@pytest.mark.parametrize("more", [0, 3, 4, 8, 12])  # rows of the prediction beside the region
def test_a_prediction_on_an_ignored_region(region, area, more, tmp_path):
    ids = scene((slice(20, 20 + area[0]), slice(20, 20 + area[1]), region), FOUND)
    wrong = bitmap(slice(20, 20 + area[0] + more), slice(20, 20 + area[1]))
    predictions = [prediction_of([wrong, ids == CAR], [3, 3], [0.9, 0.8])]
    assert_equal(ap(predictions, [ids]), script_ap(predictions, [ids], tmp_path))


@pytest.mark.parametrize("rows", range(5, 21))  # IoU of 5/20, 6/20, ...: thresholds are met exactly
def test_overlap_and_ignored_share_at_the_thresholds(rows, tmp_path):
    ids = scene((slice(0, 20), slice(0, 20), CAR + 1), (slice(0, rows), slice(50, 70), IDS["static"]), FOUND)
    masks = [bitmap(slice(0, rows), slice(0, 20)), bitmap(slice(0, 20), slice(50, 70)), ids == CAR]
    predictions = [prediction_of(masks, [3, 3, 3], [0.9, 0.8, 0.7])]
    assert_equal(ap(predictions, [ids]), script_ap(predictions, [ids], tmp_path))


def test_a_class_whose_predictions_are_all_left_out_has_an_ap_of_zero():
    ids = scene((slice(0, 20), slice(0, 20), CAR), (slice(50, 70), slice(50, 70), IDS["static"]))
    result = ap([prediction_of([bitmap(slice(50, 70), slice(50, 70))], [3], [0.9])], [ids])
    assert result["segm/AP_car"] == 0


def test_images_without_objects_or_predictions(tmp_path):
    empty, car = scene(), scene(FOUND)
    nothing, wrong = prediction_of([], [], []), prediction_of([bitmap(slice(0, 9), slice(0, 9))], [3], [0.4])
    found = prediction_of([car == CAR], [3], [0.5])
    predictions, instance_ids = [nothing, nothing, wrong, found], [empty, car, empty, car]
    result = ap(predictions, instance_ids)
    assert_equal(result, script_ap(predictions, instance_ids, tmp_path))
    assert result["segm/AP_car"] == pytest.approx(50)
    assert np.isnan(list(ap([wrong, nothing], [empty, empty]).values())).all()


def test_more_than_a_hundred_predictions_count(tmp_path):
    rng = np.random.default_rng(0)
    ids = scene(FOUND)
    masks = [rectangle(rng, 20) for _ in range(150)] + [ids == CAR]
    predictions = [prediction_of(masks, [3] * 151, [0.9] * 150 + [0.1])]
    result = ap(predictions, [ids])
    assert_equal(result, script_ap(predictions, [ids], tmp_path))
    assert 0 < result["segm/AP_car"] < 1


def test_a_class_left_out_changes_no_other_class():
    predictions, instance_ids = random_dataset(20, images=12)
    every = ap(predictions, instance_ids)
    fewer = ap(predictions, instance_ids, {2: "rider", 3: "car"})
    names = ["segm/AP_rider", "segm/AP50_rider", "segm/AP_car", "segm/AP50_car"]
    assert [fewer[name] for name in names] == [every[name] for name in names]
    assert fewer["segm/AP"] == pytest.approx((every["segm/AP_rider"] + every["segm/AP_car"]) / 2)


def test_order_and_repetition_of_images_do_not_matter():
    predictions, instance_ids = random_dataset(21)
    targets = [target_of(ids, str(index)) for index, ids in enumerate(instance_ids)]
    results = []
    for order in ([0, 1, 2, 3, 4, 5], [5, 2, 4, 2, 0, 1, 3, 5]):
        metric = CityscapesAP(CLASSES)
        metric.update([predictions[i] for i in order], [targets[i] for i in order])
        results.append(metric.compute())
    np.testing.assert_equal(*results)


def test_errors_name_the_image_and_what_is_wrong():
    prediction, target = prediction_of([], [], []), target_of(scene(), "ulm_000000_000019")
    target["void"] = encode(np.ones((1, 5, 4), bool))[0]
    with pytest.raises(ValueError, match=r"void of image ulm_000000_000019.*\(96, 160\).*\[5, 4\]"):
        CityscapesAP(CLASSES).update([prediction], [target])


def test_example_in_the_docstring():
    assert doctest.testmod(metrics.cityscapes) == (0, 9)
