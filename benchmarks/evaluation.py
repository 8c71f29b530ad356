"""Time and memory of the evaluation, beside torchvision, pycocotools, torchmetrics and cityscapesscripts.

    python -m benchmarks.evaluation --images 100 --peer-images 10 --output evaluation.json

Each contender runs in a process of its own, over the same drawn images of 1024 × 2048 pixels, and is given what
it takes: mask probabilities, RLEs, bitmaps or files. Making these is not timed, but is part of the memory, which
is the growth of the process's peak. Times are per image. The ratios are to the first of each group; where all have
the same images, the result shows that all did the same work (torchmetrics differs in the second decimal, as it rounds
the recall thresholds to float32). Peers may be given fewer images, of which their time is proportional.
"""

import argparse
import contextlib
import copy
import io
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as cityscapes
from cityscapesscripts.evaluation.instances2dict import instances2dict
from faster_coco_eval.core import mask as mask_api
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchmetrics.detection import MeanAveragePrecision
from torchvision.models.detection.roi_heads import paste_masks_in_image

from benchmarks.peak import peak_memory
from configs import ModelConfig
from lightning_modules.models import build_model
from metrics.cityscapes import CityscapesAP
from metrics.coco import CocoAP
from metrics.rle import encode, paste_masks_as_rle
from outputs import write_atomically

SIZE = (1024, 2048)
OBJECTS = 25
CLASSES = {
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
ROAD, EGO_VEHICLE = 7, 1

# prepare(scene) -> what the contender takes, update(that), result() -> a number that should agree
Contender = tuple[Callable[[dict], Any], Callable[[Any], None], Callable[[], float]]


def draw(index: int, predictions: int) -> dict:
    """Instance ids of one image, and boxes and mask probabilities as a mask head gives them."""
    rng = np.random.default_rng(index)
    y, x = np.ogrid[: SIZE[0], : SIZE[1]]
    centre = rng.uniform(0, 1, (OBJECTS, 2)) * SIZE[::-1]
    half = np.exp(rng.uniform(np.log(8), np.log(220), (OBJECTS, 2)))
    labels = rng.choice(list(CLASSES), OBJECTS)
    ids = np.full(SIZE, ROAD, np.uint16)
    for number, (label, (cx, cy), (rx, ry)) in enumerate(zip(labels, centre, half, strict=True)):
        is_group = number < 3
        ellipse = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1
        ids[ellipse] = label if is_group else 1000 * label + number
    ids[-100:] = EGO_VEHICLE

    source = rng.integers(0, OBJECTS, predictions)
    middle = centre[source] + half[source] * rng.normal(0, 0.12, (predictions, 2))
    reach = half[source] * np.exp(rng.normal(0, 0.12, (predictions, 2)))
    boxes = np.concatenate([middle - reach, middle + reach], axis=1).clip(0, np.tile(SIZE[::-1], 2))
    grid = np.linspace(-1, 1, 28)
    logits = 8 * (1 - grid**2 - grid[:, None] ** 2) + rng.normal(0, 1, (predictions, 28, 28))
    return {
        "index": index,
        "ids": ids,
        "mask_probs": torch.from_numpy(logits).float().sigmoid()[:, None],
        "boxes": torch.from_numpy(boxes).float(),
        "labels": torch.from_numpy(labels[source]),
        "scores": torch.from_numpy(rng.uniform(0.05, 1, predictions)).float(),
    }


def target_of(scene: dict) -> dict:
    ids = scene["ids"]
    values = [value for value in np.unique(ids).tolist() if value >= min(CLASSES)]
    masks = [encode(ids[None] == value)[0] for value in values]
    boxes = mask_api.toBbox(masks)
    boxes[:, 2:] += boxes[:, :2]
    return {
        "image_id": str(scene["index"]),
        "size": SIZE,
        "boxes": torch.from_numpy(boxes),
        "labels": torch.tensor([value if value < 1000 else value // 1000 for value in values]),
        "masks": masks,
        "iscrowd": torch.tensor([value < 1000 for value in values]),
        "area": torch.from_numpy(mask_api.area(masks).astype(float)),
        "void": encode(ids[None] == EGO_VEHICLE)[0],
    }


def pair_of(scene: dict) -> tuple[dict, dict]:
    """What the metrics take of a scene."""
    masks = paste_masks_as_rle(scene["mask_probs"], scene["boxes"], SIZE)
    return {name: scene[name] for name in ("boxes", "labels", "scores")} | {"masks": masks}, target_of(scene)


def rle_pasting() -> Contender:
    areas = []

    def update(scene: dict) -> None:
        areas.append(mask_api.area(paste_masks_as_rle(scene["mask_probs"], scene["boxes"], SIZE)).sum())

    return lambda scene: scene, update, lambda: float(np.mean(areas))


def bitmap_pasting() -> Contender:
    areas = []

    def update(scene: dict) -> None:
        bitmaps = paste_masks_in_image(scene["mask_probs"], scene["boxes"], SIZE)[:, 0] > 0.5
        areas.append(mask_api.area(encode(bitmaps.numpy())).sum())

    return lambda scene: scene, update, lambda: float(np.mean(areas))


def coco_ap() -> Contender:
    metric = CocoAP(["bbox", "segm"], CLASSES)
    return pair_of, lambda pair: metric.update([pair[0]], [pair[1]]), lambda: metric.compute()["segm/AP"]


def mean_average_precision() -> Contender:
    metric = MeanAveragePrecision(iou_type=("bbox", "segm"), backend="faster_coco_eval")
    metric.warn_on_many_detections = False

    def prepare(scene: dict) -> tuple[dict, dict]:
        pair = pair_of(scene)
        for side in pair:
            bitmaps = np.ascontiguousarray(mask_api.decode(side["masks"]).transpose(2, 0, 1))
            side["masks"] = torch.from_numpy(bitmaps.view(bool))
        return pair

    def result() -> float:
        return 100 * float(metric.compute()["segm_map"])

    return prepare, lambda pair: metric.update([pair[0]], [pair[1]]), result


def cocoeval() -> Contender:
    images, truth, results = [], [], []

    def instances(side: dict, image_id: int) -> list[dict]:
        extents = side["boxes"][:, 2:] - side["boxes"][:, :2]
        boxes = torch.cat([side["boxes"][:, :2], extents], dim=1).tolist()
        columns = zip(side["labels"].tolist(), boxes, side["masks"], strict=True)
        return [
            {"image_id": image_id, "category_id": label, "bbox": box, "segmentation": mask}
            for label, box, mask in columns
        ]

    def update(pair: tuple[dict, dict]) -> None:
        prediction, target = pair
        image_id = int(target["image_id"])
        images.append({"id": image_id, "height": SIZE[0], "width": SIZE[1]})
        areas, crowds = target["area"].tolist(), target["iscrowd"].int().tolist()
        for instance, area, crowd in zip(instances(target, image_id), areas, crowds, strict=True):
            truth.append(instance | {"id": len(truth) + 1, "area": area, "iscrowd": crowd})
        for instance, score in zip(instances(prediction, image_id), prediction["scores"].tolist(), strict=True):
            results.append(instance | {"score": score})

    def result() -> float:
        coco = COCO()
        categories = [{"id": label, "name": name} for label, name in CLASSES.items()]
        coco.dataset = {"images": images, "annotations": truth, "categories": categories}
        coco.createIndex()
        for iou_type, key in (("bbox", "bbox"), ("segm", "segmentation")):
            names = ("image_id", "category_id", "score", key)
            detections = coco.loadRes([{name: result[name] for name in names} for result in results])
            evaluator = COCOeval(coco, detections, iou_type)
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
        return 100 * float(evaluator.stats[0])

    return pair_of, update, result


def cityscapes_ap() -> Contender:
    metric = CityscapesAP(CLASSES)
    return pair_of, lambda pair: metric.update([pair[0]], [pair[1]]), lambda: metric.compute()["segm/AP"]


def cityscapes_scripts() -> Contender:
    cityscapes.np.in1d = np.isin  # cityscapesscripts 2.3.0 calls np.in1d, which NumPy 2.4 has no more
    folder = tempfile.TemporaryDirectory()
    root = Path(folder.name)
    args = copy.copy(cityscapes.args)
    args.predictionPath, args.quiet = folder.name, True
    truth_files, prediction_files = [], []

    def prepare(scene: dict) -> tuple[str, str]:
        prediction, _ = pair_of(scene)
        truth = root / f"{scene['index']}_instanceIds.png"
        Image.fromarray(scene["ids"]).save(truth)
        lines = []
        columns = zip(prediction["masks"], prediction["labels"].tolist(), prediction["scores"].tolist(), strict=True)
        for number, (mask, label, score) in enumerate(columns):
            name = f"{scene['index']}_{number}.png"
            Image.fromarray(mask_api.decode(mask) * 255).save(root / name)
            lines.append(f"{name} {label} {score!r}\n")
        text = root / f"{scene['index']}.txt"
        text.write_text("".join(lines))
        return str(text), str(truth)

    def update(files: tuple[str, str]) -> None:
        prediction_files.append(files[0])
        truth_files.append(files[1])

    def result() -> float:
        cityscapes.setInstanceLabels(args)
        instances = instances2dict(truth_files)
        matches = cityscapes.matchGtWithPreds(prediction_files, truth_files, instances, args)
        average = cityscapes.computeAverages(cityscapes.evaluateMatches(matches, args), args)
        folder.cleanup()
        return 100 * float(average["allAp"])

    return prepare, update, result


def inference() -> Contender:
    """Mask R-CNN R50-FPN at the size of its Cityscapes schedule, with weights that find something everywhere."""
    torch.manual_seed(0)
    model = build_model(
        ModelConfig("maskrcnn_resnet50_fpn", min_size=[1024], max_size=2048, arguments={"box_score_thresh": 0.0}), 9
    ).eval()
    counts = []

    @torch.no_grad()
    def update(image: torch.Tensor) -> None:
        counts.append(len(model([image])[0]["boxes"]))

    return lambda scene: torch.rand(3, *SIZE), update, lambda: float(np.mean(counts))


def evaluation() -> Contender:
    """All that a validation of Cityscapes does with the model's output."""
    boxes, masks = CocoAP(["bbox"], CLASSES), CityscapesAP(CLASSES)
    counts = []

    def update(given: tuple[dict, dict]) -> None:
        scene, target = given
        prediction = {name: scene[name] for name in ("boxes", "labels", "scores")}
        prediction["masks"] = paste_masks_as_rle(scene["mask_probs"], scene["boxes"], SIZE)
        boxes.update([prediction], [target])
        masks.update([prediction], [target])
        counts.append(len(prediction["masks"]))

    def result() -> float:
        boxes.compute()
        masks.compute()
        return float(np.mean(counts))

    return lambda scene: (scene, target_of(scene)), update, result


GROUPS = {
    "a validation beside the inference it follows (result: objects per image)": {
        "Mask R-CNN R50-FPN": inference,
        "pasting and both AP": evaluation,
    },
    "pasting masks (result: mask area per image)": {
        "paste_masks_as_rle": rle_pasting,
        "torchvision + encode": bitmap_pasting,
    },
    "COCO box and mask AP (result: mask AP)": {
        "CocoAP": coco_ap,
        "torchmetrics": mean_average_precision,
        "pycocotools": cocoeval,
    },
    "Cityscapes AP (result: mask AP)": {
        "CityscapesAP": cityscapes_ap,
        "cityscapesscripts": cityscapes_scripts,
    },
}

OWN = ("paste_masks_as_rle", "CocoAP", "CityscapesAP", "pasting and both AP")


def measure(group: str, name: str, images: int, predictions: int) -> dict[str, float]:
    """Milliseconds per image, and peak memory (MB), of one contender, from scene to result."""
    memory, seconds = peak_memory(), 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        prepare, update, result = GROUPS[group][name]()
        for index in range(images):
            given = prepare(draw(index, predictions))
            start = time.perf_counter()
            update(given)
            seconds += time.perf_counter() - start
        start = time.perf_counter()
        value = result()
        seconds += time.perf_counter() - start
    return {"images": images, "ms": 1000 * seconds / images, "peak_mb": peak_memory() - memory, "result": value}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--peer-images", type=int, help="of the other contenders; default: as many")
    parser.add_argument("--predictions", type=int, default=100, help="per image")
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    arguments = parser.parse_args()

    report = {"predictions": arguments.predictions}
    for group, contenders in GROUPS.items():
        print(f"\n{group}\n{'':22}{'images':>8}{'ms/image':>10}{'ratio':>8}{'peak MB':>10}{'ratio':>8}{'result':>16}")
        report[group] = {}
        for name in contenders:
            is_peer = name not in OWN and arguments.peer_images is not None
            images = arguments.peer_images if is_peer else arguments.images
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                row = pool.apply(measure, (group, name, images, arguments.predictions))
            first = next(iter(report[group].values()), row)
            row["ms_ratio"] = row["ms"] / first["ms"]
            row["peak_ratio"] = row["peak_mb"] / first["peak_mb"]
            report[group][name] = row
            print(
                f"{name:22}{images:8}{row['ms']:10.1f}{row['ms_ratio']:8.2f}{row['peak_mb']:10.0f}"
                f"{row['peak_ratio']:8.1f}{row['result']:16.6f}",
                flush=True,
            )
    if arguments.output:
        write_atomically(arguments.output, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
