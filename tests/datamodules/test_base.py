"""From records to anonymized batches on the device."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from configs import load_config
from datamodules.base import EpochSampler
from datamodules.layouts import LAYOUTS
from datamodules.record import Record, decode
from errors import UserError

FLIP = "data.geometry=[{HorizontalFlip: {p: 0.5}}]"


def datamodule(root, *overrides, layout="cityscapes"):
    base = [
        f"data.root={root}",
        f"data.index_dir={root.parent / 'index'}",
        "data.num_workers=0",
        "data.batch_size=2",
        f"data.layout={layout}",
    ]
    config = load_config("configs/quickstart.yaml", ["data.streetscenes=null", *base, *overrides])
    module = LAYOUTS[layout](config)
    module.setup("fit")
    return module


def batches(module, training=True):
    module.trainer = SimpleNamespace(training=training, world_size=1, global_rank=0, current_epoch=0)
    loader = module.train_dataloader() if training else module.val_dataloader()
    return [module.on_after_batch_transfer(batch, 0) for batch in loader]


def images(batches):
    return {t["image_id"]: i for b in batches for t, i in zip(b.targets, b.images, strict=True)}


@pytest.mark.parametrize("condition", ["body/mask_out", "face/blur"])
def test_training_is_anonymized_validation_is_not(streetscenes, condition):
    root = streetscenes["cityscapes"]
    original = images(batches(datamodule(root, "data.geometry=[]")))
    module = datamodule(root, "data.geometry=[]", f"condition={condition}")
    anonymized = images(batches(module))
    assert original.keys() == anonymized.keys()
    changed = [id_ for id_ in original if not torch.equal(original[id_], anonymized[id_])]
    people = {r.image_id for r in module.train if (r.bodies if condition.startswith("body") else r.faces)}
    assert set(changed) == people and people
    assert module.anonymized_regions > 0

    records = {r.image_id: r for r in module.val}
    for batch in batches(module, training=False):
        assert batch.regions is None
        for image, target in zip(batch.images, batch.targets, strict=True):
            expected = records[target["image_id"]].read_image()
            np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_body_pixels_are_gone(streetscenes):
    module = datamodule(streetscenes["cityscapes"], "data.geometry=[]", "condition=body/mask_out")
    hidden = 0
    for batch in batches(module):
        for image, target in zip(batch.images, batch.targets, strict=True):
            for label, mask in zip(target["labels"], target["masks"], strict=True):
                height = mask.any(1).sum()
                if module.classes[label - 1] == "person" and height > 12:
                    # a silhouette shrunk by a pixel lies within the dilated one, whatever the resampling
                    core = -torch.nn.functional.max_pool2d(-mask[None, None].float(), 3, 1, 1)[0, 0] > 0
                    assert set(image[:, core].unique().tolist()) <= {127, 128}
                    hidden += int(core.sum())
    assert hidden > 200


@pytest.mark.parametrize("region", ["body", "face"])
@pytest.mark.parametrize(
    "geometry",
    ["{LongestMaxSize: {max_size: 90}}", "{RandomScale: {scale_limit: [-0.5, 1]}}", "{Affine: {rotate: [-30, 30]}}"],
)
def test_whoever_is_moved_leaves_nothing_of_themselves(streetscenes, monkeypatch, region, geometry):
    """Masked-out people may have any pixels: the result is the same."""
    module = datamodule(streetscenes["cityscapes"], f"data.geometry=[{geometry}]", f"condition={region}/mask_out")
    dataset = module.train_dataloader().dataset
    compared = 0
    for index, record in enumerate(dataset.records):
        image = record.read_image()
        hidden = np.zeros(record.size, bool)
        for mask in decode([mask for _, mask in record.bodies if region == "body"], record.size):
            hidden |= mask > 0
        for _, (x0, y0, x1, y1, *_) in record.faces if region == "face" else []:
            hidden[round(y0) : round(y1), round(x0) : round(x1)] = True
        others = np.where(hidden[..., None], 255 - image, image)
        results = []
        for pixels in (image, others):
            monkeypatch.setattr(Record, "read_image", lambda self, pixels=pixels: pixels)
            given, _, regions = dataset[index]
            monkeypatch.undo()
            results += module.anonymizer([given], regions)
        if not regions.dropped:
            assert torch.equal(*results)
            compared += len(regions)
    assert compared > 0


def test_seed_and_epoch_decide_the_order_and_the_geometry(streetscenes):
    def epoch(module, number):
        loader = module.train_dataloader()
        loader.sampler.set_epoch(number)
        return [(t["image_id"], i) for b in loader for t, i in zip(b.targets, b.images, strict=True)]

    root = streetscenes["cityscapes"]
    first, again = datamodule(root, FLIP), datamodule(root, FLIP, "data.num_workers=2")
    for number in (0, 1):
        for (id_a, a), (id_b, b) in zip(epoch(first, number), epoch(again, number), strict=True):
            assert id_a == id_b and torch.equal(a, b)
    other = datamodule(root, FLIP, "seed=1")
    runs = [epoch(first, 0), epoch(first, 1), epoch(other, 0)]
    keys = [tuple((id_, i.numpy().tobytes()) for id_, i in run) for run in runs]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("region", ["body", "face"])
def test_an_epoch_changes_no_persons_seed(streetscenes, region):
    """Who replaces a person is decided once, though its image is mirrored in one epoch and not in another."""
    dataset = datamodule(streetscenes["cityscapes"], FLIP, f"condition={region}/blur").train_dataloader().dataset
    compared = mirrored = 0
    for index in range(len(dataset)):
        (first, _, regions), *others = (dataset[index + epoch * len(dataset)] for epoch in range(5))
        for image, _, again in others:
            assert sorted(again.seeds.tolist()) == sorted(regions.seeds.tolist())
            compared += len(again)
            mirrored += not torch.equal(image, first)
    assert compared > 0 and mirrored > 0


def test_a_picture_that_is_annotated_as_two_images_is_refused(streetscenes, tmp_path):
    """Each would show the people of the other, in training too."""
    root = shutil.copytree(streetscenes["coco"], tmp_path / "coco")
    path = root / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["images"].append(content["images"][0] | {"id": 10**6})
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"is annotated as two images, \d+ and 1000000"):
        datamodule(root, layout="coco_instances")


def test_a_run_does_not_go_on_with_another_generator(streetscenes):
    module = datamodule(streetscenes["cityscapes"], "condition=face/realistic")
    before = module.fingerprints
    assert before["generators.face"].startswith("streetscenes_face.safetensors@")
    module.trainer = SimpleNamespace(is_global_zero=True)
    module.load_state_dict({"anonymized_regions": 3, "fingerprints": before})
    assert module.anonymized_regions == 3
    with pytest.raises(UserError, match=r"generators\.face: has changed since this run began"):
        module.load_state_dict({"anonymized_regions": 3, "fingerprints": before | {"generators.face": "other@1"}})


def test_mirrored_targets_fit_their_image(streetscenes):
    mirror = "data.geometry=[{HorizontalFlip: {p: 1}}]"
    root = streetscenes["coco"]
    plain = datamodule(root, "data.geometry=[]", layout="coco_keypoints").train_dataloader().dataset
    mirrored = datamodule(root, mirror, layout="coco_keypoints").train_dataloader().dataset
    compared = 0
    for index in range(len(plain)):
        (image, target, _), (image_m, target_m, _) = plain[index], mirrored[index]
        width = image.shape[-1]
        assert torch.equal(image.flip(-1), image_m)
        x0, y0, x1, y1 = target["boxes"].T
        torch.testing.assert_close(target_m["boxes"], torch.stack([width - x1, y0, width - x0, y1], 1))
        left, right = target["keypoints"][:, 5], target_m["keypoints"][:, 6]  # shoulders change places
        visible = left[:, 2] > 0
        torch.testing.assert_close(width - left[visible, 0], right[visible, 0])
        assert torch.equal(left[:, 2], right[:, 2])
        compared += int(visible.sum())
    assert compared > 0


def test_sampler_shares_an_epoch_out():
    dataset = range(10)
    processes = [SimpleNamespace(world_size=2, global_rank=rank, current_epoch=0) for rank in (0, 1)]
    shares = [list(EpochSampler(dataset, process, shuffle=True, seed=3)) for process in processes]
    assert sorted(shares[0] + shares[1]) == list(range(10))
    sampler = EpochSampler(dataset, None, shuffle=True, seed=3)
    sampler.set_epoch(4)
    assert sorted(sampler) == list(range(40, 50))
