"""Random instanceIds.png with predictions, and what cityscapesscripts says of them."""

import copy
from unittest import mock

import numpy as np
import torch
from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as cityscapes
from cityscapesscripts.evaluation.instances2dict import instances2dict
from cityscapesscripts.helpers.labels import labels as cityscapes_labels
from PIL import Image

from metrics.rle import encode

NAMES = ["person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]
CLASSES = dict(enumerate(NAMES, start=1))
IDS = {label.name: label.id for label in cityscapes_labels}
VOID_IDS = [label.id for label in cityscapes_labels if label.ignoreInEval]
SIZE = (96, 160)


def script_ap(predictions: list[dict], instance_ids: list[np.ndarray], folder) -> dict[str, float]:
    """What cityscapesscripts says of the same predictions and instanceIds.png, through its files."""
    truth_files, prediction_files = [], []
    for index, (prediction, ids) in enumerate(zip(predictions, instance_ids, strict=True)):
        truth_files.append(str(folder / f"ulm_{index:06}_000019_gtFine_instanceIds.png"))
        Image.fromarray(ids).save(truth_files[-1])
        lines = []
        for number, (bitmap, label) in enumerate(zip(prediction["bitmaps"], prediction["labels"], strict=True)):
            name = f"{index}_{number}.png"
            Image.fromarray(bitmap.astype(np.uint8) * 255).save(folder / name)
            score = float(prediction["scores"][number])
            lines.append(f"{name} {IDS[CLASSES.get(int(label), 'caravan')]} {score!r}\n")
        prediction_files.append(str(folder / f"ulm_{index:06}_000019.txt"))
        (folder / f"ulm_{index:06}_000019.txt").write_text("".join(lines))

    args = copy.copy(cityscapes.args)
    args.predictionPath, args.quiet = str(folder), True
    cityscapes.setInstanceLabels(args)
    assert args.instLabels == NAMES
    # cityscapesscripts 2.3.0 calls np.in1d, which NumPy 2.4 has no more.
    with mock.patch.object(np, "in1d", np.isin, create=True):
        matches = cityscapes.matchGtWithPreds(prediction_files, truth_files, instances2dict(truth_files), args)
    ap = []
    for name in NAMES:
        args.instLabels = [name]
        try:
            ap.append(cityscapes.evaluateMatches(matches, args)[0, 0])
        except IndexError:  # every prediction of the class is left out
            ap.append(np.zeros(len(args.overlaps)))
    args.instLabels = NAMES
    average = cityscapes.computeAverages(np.array(ap)[None], args)
    result = {"segm/AP": average["allAp"], "segm/AP50": average["allAp50%"]}
    for name, of_class in average["classes"].items():
        result |= {f"segm/AP_{name}": of_class["ap"], f"segm/AP50_{name}": of_class["ap50%"]}
    return {name: 100 * float(value) for name, value in result.items()}


def target_of(ids: np.ndarray, image_id: str) -> dict:
    """The target of an instanceIds.png, each group in two pieces where it can be."""
    bitmaps, labels, iscrowd = [], [], []
    for value in np.unique(ids):
        class_id = value if value < 1000 else value // 1000
        for label, name in CLASSES.items():
            if IDS[name] != class_id:
                continue
            pieces = [ids == value]
            if value < 1000:
                left = np.arange(ids.shape[1]) < ids.shape[1] // 2
                pieces = [pieces[0] & left, pieces[0] & ~left]
            bitmaps += pieces
            labels += [label] * len(pieces)
            iscrowd += [bool(value < 1000)] * len(pieces)
    void = np.isin(ids, VOID_IDS)
    return {
        "image_id": image_id,
        "size": ids.shape,
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": encode(np.array(bitmaps).reshape(-1, *ids.shape)),
        "iscrowd": torch.tensor(iscrowd, dtype=torch.bool),
        "void": encode(void[None])[0] if void.any() else None,
    }


def prediction_of(bitmaps: list[np.ndarray], labels: list[int], scores: list[float], size=SIZE) -> dict:
    bitmaps = np.array(bitmaps, dtype=bool).reshape(-1, *size)
    return {
        "bitmaps": bitmaps,  # for the script
        "masks": encode(bitmaps),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.tensor(scores, dtype=torch.float32),
    }


def rectangle(rng: np.random.Generator, largest: int, size=SIZE) -> np.ndarray:
    h, w = rng.integers(2, largest, 2)
    y, x = rng.integers(0, size[0] - h), rng.integers(0, size[1] - w)
    bitmap = np.zeros(size, bool)
    bitmap[y : y + h, x : x + w] = True
    return bitmap


def random_image(rng: np.random.Generator, size=SIZE, objects=14, predictions=25) -> tuple[dict, np.ndarray]:
    """Objects, whole and cut and tiny, groups, void; near, double, noisy, empty and wrong predictions."""
    ids = np.full(size, IDS["road"], np.uint16)
    values = [*VOID_IDS[:-1], IDS["caravan"] * 1000 + 1, *(IDS[name] for name in NAMES[:4])]
    for number in range(rng.integers(0, objects + 1)):
        if rng.random() < 0.3:
            ids[rectangle(rng, size[0] // 2, size)] = rng.choice(values)
        else:
            largest = rng.choice([12, size[0] // 3, size[0] // 2])
            ids[rectangle(rng, largest, size)] = IDS[rng.choice(NAMES[:-1])] * 1000 + number

    bitmaps, labels, scores = [], [], []
    present = np.unique(ids)
    for _ in range(rng.integers(0, predictions + 1)):
        value = int(rng.choice(present))
        names = [label for label, name in CLASSES.items() if IDS[name] in (value, value // 1000)]
        bitmap = ids == value if names or rng.random() < 0.5 else rectangle(rng, size[0] // 2, size)
        bitmap = np.roll(bitmap, rng.choice([0, 0, 1, 2, 4], 2), (0, 1)) & (rng.random(size) < rng.choice([1, 0.8]))
        if rng.random() < 0.3:
            bitmap |= rectangle(rng, 20, size)
        if rng.random() < 0.05:
            bitmap[:] = False
        bitmaps.append(bitmap)
        labels.append(names[0] if names and rng.random() < 0.9 else int(rng.integers(1, 10)))
        scores.append(float(rng.choice([0.1, 0.3, 0.5, 0.5, 0.7, rng.random()])))
    return prediction_of(bitmaps, labels, scores, size), ids


def random_dataset(seed: int, images: int = 6) -> tuple[list[dict], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    pairs = [random_image(rng) for _ in range(images)]
    return [prediction for prediction, _ in pairs], [ids for _, ids in pairs]
