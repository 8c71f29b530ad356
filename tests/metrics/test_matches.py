"""The average precision of a resample is that of a data set in which the images really come several times."""

import cityscapes_truth
import coco_truth
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import metrics.matches
from errors import UserError
from metrics.cityscapes import CityscapesAP
from metrics.coco import CocoAP
from metrics.matches import Matches, read_matches, write_matches

TYPES = ("bbox", "segm", "keypoints")


def coco(predictions: list[dict], targets: list[dict], iou_types=TYPES) -> CocoAP:
    metric = CocoAP(iou_types, coco_truth.CLASSES)
    metric.update(predictions, targets)
    return metric


def cityscapes(predictions: list[dict], instance_ids: list[np.ndarray]) -> CityscapesAP:
    metric = CityscapesAP(cityscapes_truth.CLASSES)
    targets = [cityscapes_truth.target_of(ids, f"ulm_{index}") for index, ids in enumerate(instance_ids)]
    metric.update(predictions, targets)
    return metric


def average_precision(matches: list[Matches], weights: np.ndarray) -> list[dict[str, float]]:
    """For each resample."""
    values = {}
    for of_type in matches:
        values |= of_type.average_precision(weights)
    return [{name: ap[row] for name, ap in values.items()} for row in range(len(weights))]


def resamples(seed: int, count: int, images: int) -> np.ndarray:
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), count)


def assert_equal(result: dict, expected: dict) -> None:
    assert result == pytest.approx(expected, rel=0, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("seed", range(10))
def test_of_each_image_once_it_is_the_metrics(seed):
    for metric in (coco(*coco_truth.random_dataset(seed)), cityscapes(*cityscapes_truth.random_dataset(seed))):
        expected = metric.compute()
        images = len(metric.matches[0].images)
        (result,) = average_precision(metric.matches, np.ones((1, images), int))
        assert_equal(result, expected)
        assert 0 < expected["segm/AP"] < 100


def without_ties(predictions: list[dict], targets: list[dict]) -> list[dict]:
    """The same order of the predictions of all images as before, but no two with the same score.

    Equal ones have the order that pycocotools gives them: of the images' ids, then within the image.
    """
    images = sorted(range(len(targets)), key=lambda index: int(targets[index]["image_id"]))
    numbers = [len(predictions[index]["scores"]) for index in images]
    scores = np.concatenate([predictions[index]["scores"] for index in images])
    ranks = np.empty(len(scores))
    ranks[np.argsort(-scores, kind="stable")] = np.linspace(1, 0.1, len(scores))
    parts = dict(zip(images, np.split(ranks, np.cumsum(numbers)[:-1]), strict=True))
    return [prediction | {"scores": torch.from_numpy(parts[index])} for index, prediction in enumerate(predictions)]


@pytest.mark.parametrize("seed", range(4))
def test_of_a_resample_it_is_pycocotools_of_the_images_really_repeated(seed):
    predictions, targets = coco_truth.random_dataset(seed, images=9)
    metric = coco(predictions, targets)
    metric.compute()
    weights = resamples(seed, 3, len(targets))
    by_id = {t["image_id"]: (p, t) for p, t in zip(without_ties(predictions, targets), targets, strict=True)}
    for counts, result in zip(weights, average_precision(metric.matches, weights), strict=True):
        copies = [
            by_id[image] for image, count in zip(metric.matches[0].images, counts, strict=True) for _ in range(count)
        ]
        repeated = [target | {"image_id": str(1 + index)} for index, (_, target) in enumerate(copies)]
        expected = {}
        for iou_type in TYPES:
            arguments = [prediction for prediction, _ in copies], repeated, coco_truth.CLASSES
            expected |= coco_truth.pycocotools_ap(iou_type, *arguments)
        assert_equal(result, expected)


@pytest.mark.parametrize("seed", range(2))
def test_of_a_resample_it_is_cityscapesscripts_of_the_images_really_repeated(seed, tmp_path):
    predictions, instance_ids = cityscapes_truth.random_dataset(seed)
    metric = cityscapes(predictions, instance_ids)
    metric.compute()
    weights = resamples(seed, 2, len(predictions))
    for row, result in enumerate(average_precision(metric.matches, weights)):
        rows = np.repeat(np.arange(len(predictions)), weights[row])
        folder = tmp_path / str(row)
        folder.mkdir()
        repeated = [predictions[i] for i in rows], [instance_ids[i] for i in rows]
        assert_equal(result, cityscapes_truth.script_ap(*repeated, folder))


@pytest.fixture(scope="module")
def scenes() -> list[Matches]:
    metrics = coco(*coco_truth.random_dataset(3)), cityscapes(*cityscapes_truth.random_dataset(3, images=12))
    for metric in metrics:
        metric.compute()
    return [of_type for metric in metrics for of_type in metric.matches]


@settings(max_examples=20)
@given(weights=arrays(np.int64, 12, elements=st.integers(0, 3)), factor=st.integers(2, 5))
def test_more_of_all_images_changes_nothing(scenes, weights, factor):
    for of_type in scenes:
        (once,) = average_precision([of_type], weights[None])
        (often,) = average_precision([of_type], factor * weights[None])
        assert_equal(often, once)


def test_a_resample_does_not_depend_on_the_others_nor_on_what_else_is_computed(scenes, monkeypatch):
    weights = resamples(0, 7, 12)
    for of_type in scenes:
        expected = of_type.average_precision(weights)
        monkeypatch.setattr(metrics.matches, "AT_A_TIME", 1)
        np.testing.assert_equal(of_type.average_precision(weights), expected)
        for name, values in expected.items():
            np.testing.assert_equal(of_type.average_precision(weights, [name, "other"]), {name: values})


def test_images_with_something_to_be_found():
    predictions, targets = coco_truth.random_dataset(5)
    metric = coco(predictions, targets, ["bbox"])
    metric.compute()
    for label, name in coco_truth.CLASSES.items():
        expected = sum(bool(((t["labels"] == label) & ~t["iscrowd"]).any()) for t in targets)
        assert metric.matches[0].images_with_objects(f"bbox/AP_{name}") == expected
    small = [
        (t["area"] <= 32**2) & ~t["iscrowd"] & torch.isin(t["labels"], torch.tensor([1, 2, 3, 5])) for t in targets
    ]
    assert metric.matches[0].images_with_objects("bbox/AP_s") == sum(bool(found.any()) for found in small)


def test_nothing_found_and_nothing_there():
    predictions, targets = coco_truth.random_dataset(0)
    nothing = [{k: v if k in ("image_id", "size") else v[:0] for k, v in side.items()} for side in predictions]
    no_target = [{k: v if k in ("image_id", "size") else v[:0] for k, v in side.items()} for side in targets]
    for some_targets, expected in ((targets, 0.0), (no_target, np.nan)):
        metric = coco(nothing, some_targets)
        metric.compute()
        for of_type in metric.matches:
            for values in of_type.average_precision(np.ones((2, len(targets)), int)).values():
                np.testing.assert_equal(values, np.full(2, expected))


def test_a_file_has_all_of_it_in_little_space_and_without_pickle(scenes, tmp_path):
    path = tmp_path / "matches.npz"
    write_matches(path, scenes[-1:])
    write_matches(path, scenes[:3])
    assert [file.name for file in tmp_path.iterdir()] == ["matches.npz"]
    with np.load(path, allow_pickle=False) as content:
        assert all(content[name].dtype != object for name in content.files)
        assert content["bbox/right"].nbytes == -(-scenes[0].right.size // 8)
    for written, read in zip(scenes[:3], read_matches(path), strict=True):
        for name, value in vars(written).items():
            np.testing.assert_array_equal(getattr(read, name), value)
            assert type(getattr(read, name)) is type(value), name
            assert getattr(getattr(read, name), "dtype", None) == getattr(value, "dtype", None)


def test_the_same_matches_are_the_same_bytes(scenes, tmp_path):
    for name in ("a.npz", "b.npz"):
        write_matches(tmp_path / name, scenes[:3])
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"{}", None])
def test_a_broken_file_is_named(content, tmp_path, scenes):
    path = tmp_path / "matches.npz"
    if content is None:
        write_matches(path, scenes[:1])
        content = path.read_bytes()[:-100]
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"matches\.npz: not the per-image results"):
        read_matches(path)
