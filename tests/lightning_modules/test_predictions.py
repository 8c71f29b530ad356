"""The files of predictions against the benchmarks' own programs, which read them beside the dataset's own files."""

import contextlib
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from configs import load_config
from datamodules.layouts import LAYOUTS
from datamodules.record import decode
from evaluate import own_ids
from lightning_modules.predictions import write_cityscapes_results, write_coco_results
from metrics.rle import encode

# cityscapesscripts 2.3.0 calls np.in1d, which NumPy 2.4 has no more, and writes its counts as JSON, which are no longer
# Python's own; it keeps a file where it is installed.
SCRIPT = """
import sys, numpy
numpy.in1d, count = numpy.isin, numpy.count_nonzero
numpy.count_nonzero = lambda array: int(count(array))
from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as script
script.args.gtInstancesFile = sys.argv.pop()
script.main()
"""


def read(layout, root, index, *overrides):
    """The dataset, and predictions near to what is there: some right, some wrong, some twice, with equal scores."""
    name = "quickstart" if layout == "cityscapes" else layout
    overrides = [f"data.root={root}", f"data.index_dir={index}", "data.num_workers=0", *overrides]
    config = load_config(f"configs/{name}.yaml", [*overrides, "data.batch_size=1"])
    datamodule = LAYOUTS[layout](config)
    datamodule.setup("validate")
    rng = np.random.default_rng(0)
    targets = [target for batch in datamodule.val_dataloader() for target in batch.targets]
    return datamodule, {t["image_id"]: prediction_of(t, rng) for t in targets}, targets


def prediction_of(target, rng):
    count = len(target["labels"])
    rows = rng.permutation(np.repeat(np.arange(count), rng.integers(0, 3, count)))
    noise = rng.normal(0, 1, (len(rows), 4)) * rng.choice([0, 1, 4], (len(rows), 1))
    prediction = {
        "boxes": (target["boxes"][rows] + torch.from_numpy(noise)).float(),
        "labels": target["labels"][rows],
        "scores": torch.from_numpy(rng.choice([0.2, 0.4, 0.4, 0.9, rng.random()], len(rows))).float(),
    }
    prediction["boxes"][:, 2:] = torch.maximum(prediction["boxes"][:, 2:], prediction["boxes"][:, :2] + 1)
    if "masks" in target:
        bitmaps = decode([target["masks"][row] for row in rows], target["size"])
        shifts = rng.integers(0, 3, (len(rows), 2))
        moved = [np.roll(bitmap, shift, (0, 1)) for bitmap, shift in zip(bitmaps, shifts, strict=True)]
        prediction["masks"] = encode(np.array(moved).reshape(-1, *target["size"]))
    if "keypoints" in target:
        keypoints = target["keypoints"][rows].float()
        prediction["keypoints"] = keypoints + torch.from_numpy(rng.normal(0, 0.3, keypoints.shape)).float()
        prediction["keypoints"][..., 2] = 1
    return prediction


def metric_values(datamodule, predictions, targets):
    values = {}
    for metric in datamodule.metrics():
        metric.update([predictions[target["image_id"]] for target in targets], targets)
        values |= metric.compute()
    return values


@pytest.mark.parametrize("layout", ["coco_instances", "coco_keypoints"])
def test_pycocotools_scores_the_files_the_same(streetscenes, tmp_path, layout):
    datamodule, predictions, targets = read(layout, streetscenes["coco"], tmp_path)
    values = metric_values(datamodule, predictions, targets)
    files = write_coco_results(predictions, *own_ids(datamodule, predictions), tmp_path)
    assert [file.name for file in files] == [f"coco_{iou_type}.json" for iou_type in datamodule.iou_types]
    task = "instances" if layout == "coco_instances" else "person_keypoints"
    for file, iou_type in zip(files, datamodule.iou_types, strict=True):
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(streetscenes["coco"] / "annotations" / f"{task}_val2017.json")
            evaluator = COCOeval(truth, truth.loadRes(str(file)), iou_type)
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
        for name, expected in zip(["AP", "AP50", "AP75"], evaluator.stats, strict=False):
            assert values[f"{iou_type}/{name}"] == pytest.approx(100 * expected, rel=0, abs=1e-9)
        assert 0 < values[f"{iou_type}/AP"] < 100


def test_ids_are_the_datasets_own_when_classes_are_left_out(streetscenes, tmp_path):
    datamodule, _, _ = read("coco_instances", streetscenes["coco"], tmp_path, "data.ignore_classes=[person, bus]")
    file = streetscenes["coco"] / "annotations" / "instances_val2017.json"
    names = {c["id"]: c["name"] for c in json.loads(file.read_text())["categories"]}
    _, ids = own_ids(datamodule, [])
    assert [names[ids[label]] for label in sorted(ids)] == list(datamodule.classes)
    assert not {"person", "bus"} & set(datamodule.classes)


def test_ids_of_images_are_the_datasets_own_text_or_numbers(streetscenes, tmp_path):
    file = streetscenes["coco"] / "annotations" / "instances_val2017.json"
    text = tmp_path / "annotations" / file.name
    text.parent.mkdir()
    content = json.loads(file.read_text())
    for item, key in [(i, "id") for i in content["images"]] + [(a, "image_id") for a in content["annotations"]]:
        item[key] = f"{item[key]:06}"
    text.write_text(json.dumps(content))
    (tmp_path / "val2017").symlink_to(streetscenes["coco"] / "val2017")
    for root, path in ((streetscenes["coco"], file), (tmp_path, text)):
        datamodule, predictions, _ = read("coco_instances", root, tmp_path)
        (written, *_) = write_coco_results(predictions, *own_ids(datamodule, predictions), tmp_path)
        found = {result["image_id"] for result in json.loads(written.read_text())}
        assert found and found <= {image["id"] for image in json.loads(path.read_text())["images"]}


def test_cityscapesscripts_scores_the_submission_the_same(streetscenes, tmp_path):
    root = streetscenes["cityscapes"]
    datamodule, predictions, targets = read("cityscapes", root, tmp_path / "index", "data.streetscenes=null")
    # One wrong object of each class, in the sky: the script ends in an IndexError where it leaves out all of a class.
    first = predictions[targets[0]["image_id"]]
    count = len(datamodule.classes)
    first["labels"] = torch.cat([first["labels"], torch.arange(1, 1 + count)])
    first["scores"] = torch.cat([first["scores"], torch.full((count,), 0.3)])
    sky = np.zeros((count, *targets[0]["size"]), bool)
    sky[:, :12, :12] = True
    first["masks"] += encode(sky)
    first["boxes"] = torch.cat([first["boxes"], torch.tensor([[0.0, 0, 12, 12]]).expand(count, 4)])
    values = metric_values(datamodule, predictions, targets)
    for _ in range(2):  # the second time in place of the first
        results = write_cityscapes_results(predictions, dict(enumerate(datamodule.classes, start=1)), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"index", "cityscapes"}, "nothing unfinished is left"
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    (dataset / "gtFine").symlink_to(root / "gtFine")
    environment = os.environ | {"CITYSCAPES_DATASET": str(dataset), "CITYSCAPES_RESULTS": str(results)}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "gtInstances.json")]
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    scores = json.loads((dataset / "evaluationResults" / "resultInstanceLevelSemanticLabeling.json").read_text())
    expected = {"segm/AP": scores["averages"]["allAp"], "segm/AP50": scores["averages"]["allAp50%"]}
    for name, score in scores["averages"]["classes"].items():
        expected |= {f"segm/AP_{name}": score["ap"], f"segm/AP50_{name}": score["ap50%"]}
    for name, score in expected.items():
        assert values[name] == pytest.approx(100 * score, rel=0, abs=1e-9, nan_ok=True)
    assert 0 < values["segm/AP"] < 100


def test_an_unfinished_submission_replaces_nothing(streetscenes, tmp_path):
    datamodule, predictions, _ = read(
        "cityscapes", streetscenes["cityscapes"], tmp_path / "index", "data.streetscenes=null"
    )
    classes = dict(enumerate(datamodule.classes, start=1))
    folder = write_cityscapes_results(predictions, classes, tmp_path)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    last = max(int(label) for prediction in predictions.values() for label in prediction["labels"])
    others = {name: prediction | {"scores": prediction["scores"] / 2} for name, prediction in predictions.items()}
    with pytest.raises(KeyError):  # late, as one label alone is none of the benchmark's
        write_cityscapes_results(others, classes | {last: "pedestrian"}, tmp_path)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"index", "cityscapes"}
