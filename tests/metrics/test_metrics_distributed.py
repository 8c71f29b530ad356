"""Both metrics over two processes that have the images unevenly, one of them twice."""

import cityscapes_truth
import coco_truth
import numpy as np
import torch
from torch import distributed

from metrics.base import RecordMetric
from metrics.cityscapes import CityscapesAP
from metrics.coco import CocoAP

SHARDS = {"uneven": ([0, 1, 2, 3], [4, 5, 0]), "one": ([0, 1, 2, 3, 4, 5], [])}


def metrics() -> list[tuple[RecordMetric, list[dict], list[dict]]]:
    predictions, instance_ids = cityscapes_truth.random_dataset(0)
    targets = [cityscapes_truth.target_of(ids, str(index)) for index, ids in enumerate(instance_ids)]
    return [
        (CocoAP(["bbox", "segm", "keypoints"], coco_truth.CLASSES), *coco_truth.random_dataset(0, images=6)),
        (CityscapesAP(cityscapes_truth.CLASSES), predictions, targets),
    ]


def process(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    results = {}
    for name, shards in SHARDS.items():
        for metric, predictions, targets in metrics():
            for index in shards[rank]:
                metric.update([predictions[index]], [targets[index]])
            results[name, type(metric).__name__] = metric.compute(), [vars(of_type) for of_type in metric.matches]
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_give_the_result_of_one(tmp_path):
    torch.multiprocessing.spawn(process, args=(str(tmp_path),), nprocs=2)
    for metric, predictions, targets in metrics():
        metric.update(predictions, targets)
        expected = metric.compute(), [vars(of_type) for of_type in metric.matches]
        for rank in range(2):
            results = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
            for name in SHARDS:
                np.testing.assert_equal(results[name, type(metric).__name__], expected)
