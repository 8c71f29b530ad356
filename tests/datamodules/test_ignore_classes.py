"""A class that is left out of the study (table 5) is background, while its people are anonymized as ever."""

from dataclasses import astuple

import numpy as np
import pytest
import torch
from faster_coco_eval.core import mask as mask_api

from configs import load_config
from datamodules.layouts import LAYOUTS
from datamodules.record import decode
from errors import UserError
from lightning_modules.detection import DetectionModule

LAYOUT_OF = {"cityscapes": "cityscapes", "coco_instances": "coco"}


@pytest.fixture(params=LAYOUT_OF)
def pair(request, streetscenes, tmp_path):
    """A data module with every class, and one without person."""
    return [make(request.param, streetscenes, tmp_path, ignored) for ignored in ("[]", "[person]")]


def make(layout, streetscenes, folder, ignored):
    overrides = [f"data.root={streetscenes[LAYOUT_OF[layout]]}", f"data.index_dir={folder}", "data.num_workers=0"]
    overrides += ["condition=body/mask_out", f"data.ignore_classes={ignored}", "data.geometry=[]", "model.weights=null"]
    module = LAYOUTS[layout](load_config(f"configs/{layout}.yaml", overrides))
    module.setup("fit")
    return module


def names(module, labels):
    return [module.classes[label - 1] for label in labels]


def test_labels_are_the_others_without_a_gap(pair):
    every, without = pair
    assert without.classes == tuple(name for name in every.classes if name != "person")
    left_out = 0
    for split in ("train", "val"):
        records = {r.image_id: r for r in getattr(without, split)}
        for record in getattr(every, split):
            others = [i for i in record.instances if every.classes[i.label - 1] != "person"]
            left_out += len(record.instances) - len(others)
            if split == "train" and not any(not i.crowd for i in others):
                assert record.image_id not in records, "nothing is left to learn from"
                continue
            kept = records[record.image_id]
            assert [(i.id, without.classes[i.label - 1], i.mask) for i in kept.instances] == [
                (i.id, every.classes[i.label - 1], i.mask) for i in others
            ]
            assert (kept.void, kept.bodies) == (record.void, record.bodies)
    assert left_out > 0


def test_people_are_anonymized_all_the_same(pair):
    every, without = (module.train_dataloader().dataset for module in pair)
    places = {r.image_id: i for i, r in enumerate(every.records)}
    people = 0
    for place, record in enumerate(without.records):
        image, target, regions = without[place]
        expected_image, expected, expected_regions = every[places[record.image_id]]
        assert torch.equal(image, expected_image)
        others = [row for row, name in enumerate(names(pair[0], expected["labels"])) if name != "person"]
        assert names(pair[1], target["labels"]) == [names(pair[0], expected["labels"])[row] for row in others]
        assert torch.equal(target["masks"], expected["masks"][others])
        for a, b in zip(astuple(regions), astuple(expected_regions), strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        people += len(regions)
    assert people > 0


def predictions(module, seed):
    """The objects of the validation images, each moved a little, and the people as one of the other classes."""
    rng = np.random.default_rng(seed)
    car = module.classes.index("car") + 1
    found = []
    for batch in module.val_dataloader():
        for target in batch.targets:
            shifted = [np.roll(m, rng.integers(-2, 3, 2), (0, 1)) for m in decode(target["masks"], target["size"])]
            masks = [mask_api.encode(np.asfortranarray(mask)) for mask in shifted]
            found.append((target, masks, [car if rng.random() < 0.5 else int(label) for label in target["labels"]]))
    return found


def test_other_classes_are_evaluated_as_before(pair):
    """Also where a prediction lies on a person: those pixels are background in both."""
    results = []
    for module in pair:
        metrics = module.metrics()
        found = predictions(pair[0], seed=0)
        targets = {t["image_id"]: t for batch in module.val_dataloader() for t in batch.targets}
        for target, masks, labels in found:
            own = [
                (mask, module.classes.index(name) + 1, 0.99 - 0.01 * place)
                for place, (mask, name) in enumerate(zip(masks, names(pair[0], labels), strict=True))
                if name in module.classes
            ]
            prediction = {
                "masks": [mask for mask, _, _ in own],
                "boxes": torch.tensor([box_of(mask) for mask, _, _ in own]).reshape(-1, 4),
                "labels": torch.tensor([label for _, label, _ in own], dtype=torch.int64),
                "scores": torch.tensor([score for _, _, score in own]),
            }
            for metric in metrics:
                metric.update([prediction], [targets[target["image_id"]]])
        results.append({k: v for metric in metrics for k, v in metric.compute().items()})
    every, without = results
    of_classes = {k for k in without if k.partition("_")[2] in pair[1].classes}
    assert {k for k in every if k.partition("_")[2] in pair[0].classes} - of_classes == {
        k for k in every if k.endswith("_person")
    }
    assert any(0 < without[k] < 100 for k in of_classes)
    for key in of_classes:
        np.testing.assert_equal(without[key], every[key])
    means = [without[k] for k in of_classes if k.startswith("segm/AP_") and without[k] >= 0]
    np.testing.assert_allclose(without["segm/AP"], np.mean(means))


def box_of(mask):
    x, y, width, height = mask_api.toBbox(mask)
    return [x, y, x + width, y + height]


def test_model_has_no_output_for_it(pair):
    _, without = pair
    config = load_config("configs/cityscapes.yaml", ["model.weights=null"])
    module = DetectionModule(config, len(without.classes) + 1, without.metrics(), "val/segm/AP")
    assert module.model.roi_heads.box_predictor.cls_score.out_features == len(without.classes) + 1


@pytest.mark.parametrize(
    ("ignored", "message"),
    [
        ("[persons]", "data.ignore_classes: unknown class 'persons', did you mean 'person'"),
        ("[person,rider,car,truck,bus,train,motorcycle,bicycle]", "leaves no class"),
    ],
)
def test_mistakes_are_named(streetscenes, tmp_path, ignored, message):
    with pytest.raises(UserError, match=message):
        make("cityscapes", streetscenes, tmp_path, ignored)


def test_the_study_has_it_as_a_config():
    config = load_config("configs/cityscapes_no_person.yaml")
    table_1 = load_config("configs/cityscapes.yaml")
    assert config.data.ignore_classes == ["person"]
    assert (config.model, config.optimizer, config.trainer) == (table_1.model, table_1.optimizer, table_1.trainer)
    assert config.name != table_1.name and config.data.name != table_1.data.name
