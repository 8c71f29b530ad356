"""Datasets of one's own in COCO's format: photographs annotated without keypoints, read against pycocotools."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

import train
from annotate import annotate
from anonymize import DatasetJob, anonymize_dataset
from configs import load_config
from datamodules.base import DetectionDataset
from datamodules.check import check, report
from datamodules.geometry import Geometry
from datamodules.layouts import build_datamodule
from errors import UserError


@pytest.fixture
def own(coco_sample, tmp_path):
    """Ten photographs, with the ids that an annotation tool gives, a crowd of people among the objects."""
    source = json.loads((coco_sample / "annotations" / "instances_train2017.json").read_text())
    crowded = {a["image_id"] for a in source["annotations"] if a["category_id"] == 1 and a["iscrowd"]}
    peopled = {a["image_id"] for a in source["annotations"] if a["category_id"] == 1} - crowded
    chosen = [*sorted(crowded)[:1], *sorted(peopled)[:9]]
    numbers = {1: 7, 44: 3}  # person, bottle
    (tmp_path / "own" / "annotations").mkdir(parents=True)
    for split, ids in (("train", chosen[:7]), ("val", chosen[7:])):
        images = [
            {key: i[key] for key in ("id", "file_name", "width", "height")} for i in source["images"] if i["id"] in ids
        ]
        (tmp_path / "own" / split).mkdir()
        for image in images:
            shutil.copy(coco_sample / "train2017" / image["file_name"], tmp_path / "own" / split)
        annotations = [
            a | {"category_id": numbers[a["category_id"]]}
            for a in source["annotations"]
            if a["image_id"] in ids and a["category_id"] in numbers
        ]
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 3, "name": "bottle"}, {"id": 7, "name": "person"}],
        }
        (tmp_path / "own" / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return tmp_path / "own"


@pytest.fixture
def config(own, tmp_path):
    def make(*overrides):
        settings = [f"data.root={own}", f"data.index_dir={tmp_path / 'index'}", *overrides]
        return load_config("configs/own.yaml", settings)

    return make


def test_its_people_are_the_objects_of_the_category_person(own, config):
    coco = COCO(own / "annotations" / "instances_train.json")
    people = [a for a in coco.anns.values() if a["category_id"] == 7]
    assert any(a["iscrowd"] for a in people) and not all(a["iscrowd"] for a in people)
    module = build_datamodule(config("condition=body/blur"))
    records = module.read("train", "body")
    assert len(records) == 7 and module.classes == ("bottle", "person")
    assert {id_ for r in records for id_, _ in r.bodies} == {a["id"] for a in people}


def test_mask_out_hides_the_people_and_nothing_else(own, config):
    coco = COCO(own / "annotations" / "instances_train.json")
    module = build_datamodule(config("condition=body/mask_out"))
    dataset = DetectionDataset(
        list(module.read("train", "body")),
        with_masks=True,
        with_keypoints=False,
        geometry=Geometry([]),
        region="body",
        seed=0,
        anonymization_seed=0,
        training=True,
    )
    for index in range(len(dataset)):
        image, target, regions = dataset[index]
        (masked,) = module.anonymizer([image], regions)
        annotations = coco.loadAnns(coco.getAnnIds(int(target["image_id"]), catIds=[7]))
        person = np.any([coco.annToMask(a) for a in annotations], axis=0)
        elsewhere = cv2.dilate(person.astype(np.uint8), np.ones((41, 41))) == 0  # the masks get a margin
        assert (masked[:, person] == 128).all()
        assert torch.equal(masked[:, elsewhere], image[:, elsewhere])


def test_faces_are_annotated_checked_and_anonymized(own, config, tmp_path):
    annotate(config("faces.detector=centerface"), workers=0)
    faces = json.loads((own / "boxes_train.json").read_text())
    assert sum(len(entry["boxes"]) for entry in faces.values()) >= 5
    splits = check(config())
    assert not report(splits)
    assert splits["train"].images == 7 and splits["val"].images == 3
    assert splits["train"].faces == sum(len(entry["boxes"]) for entry in faces.values())
    anonymize_dataset(config("condition=face/blur"), DatasetJob(output=str(tmp_path / "copy"), workers=0))
    assert {p.name for p in (tmp_path / "copy" / "train").iterdir()} == {p.name for p in (own / "train").iterdir()}
    inside, elsewhere = [], []
    for entry in json.loads((own / "annotations" / "instances_train.json").read_text())["images"]:
        name = entry["file_name"]
        pair = [np.asarray(Image.open(root / "train" / name).convert("RGB"), int) for root in (own, tmp_path / "copy")]
        change = np.abs(pair[0] - pair[1]).mean(-1)
        hidden = np.zeros(change.shape, bool)
        for x0, y0, x1, y1 in faces.get(str(entry["id"]), {"boxes": []})["boxes"]:
            hidden[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1] = True
        inside.append(change[hidden])
        elsewhere.append(change[cv2.dilate(hidden.astype(np.uint8), np.ones((9, 9))) == 0])
    # Elsewhere is JPEG's own loss.
    assert np.concatenate(inside).mean() > 5 > 1 > np.concatenate(elsewhere).mean()
    records = build_datamodule(config("condition=original", f"data.root={tmp_path / 'copy'}")).read("train", "none")
    originals = build_datamodule(config("condition=original")).read("train", "none")
    assert [r.instances for r in records] == [r.instances for r in originals]


def test_the_small_model_is_trained_on_them(config, inside, own, tmp_path):
    settings = [f"data.root={own}", f"data.index_dir={tmp_path / 'index'}", f"output_dir={tmp_path / 'out'}"]
    settings += ["trainer.max_steps=2", "trainer.val_check_interval=1", "data.num_workers=0", "model.min_size=[64]"]
    process = inside(train.main, "--config", "configs/own.yaml", "condition=body/mask_out", *settings)
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "out" / "own-body-mask_out-seed0" / "results.json").read_text())
    assert results["anonymized_regions"] > 0 and results["dataset"] == "own"
    assert {"val/segm/AP_bottle", "val/segm/AP_person"} <= results["metrics"].keys()


def test_a_generator_is_told_the_poses_that_are_annotated(own, config):
    path = own / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    posed = next(a for a in content["annotations"] if a["category_id"] == 7)
    posed["keypoints"] = [30, 20, 2] + [0] * 48
    path.write_text(json.dumps(content))
    module = build_datamodule(config("condition=body/realistic", "generators.body=unused"))
    keypoints = {id_: joints for r in module.read("train", "body") for id_, joints in r.keypoints.items()}
    assert keypoints.keys() == {posed["id"]}
    assert keypoints[posed["id"]][0].tolist() == [30, 20, 1]


def test_without_a_category_person_nobody_would_be_anonymized(own, config):
    path = own / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["categories"][1]["name"] = "pedestrian"
    path.write_text(json.dumps(content))
    build_datamodule(config()).read("train", "none")
    with pytest.raises(
        UserError, match=r"instances_train\.json: categories: none of bottle, pedestrian is named person"
    ):
        build_datamodule(config("condition=body/blur")).read("train", "body")


def test_people_of_no_image_would_stay_in_sight(own, config):
    path = own / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        annotation["image_id"] = str(annotation["image_id"])
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"instances_train\.json: a person's image_id '\d+' is none of the images of"):
        build_datamodule(config("condition=body/blur")).read("train", "body")


def test_images_may_be_named_in_words(own, config):
    """Faces are found, written and read where the ids of images are text, even one of digits."""
    path = own / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    names = {image["id"]: f"00{place}" if place else "front camera" for place, image in enumerate(content["images"])}
    for entry in content["images"]:
        entry["id"] = names[entry["id"]]
    for annotation in content["annotations"]:
        annotation["image_id"] = names[annotation["image_id"]]
    path.write_text(json.dumps(content))
    annotate(config("faces.detector=centerface"), workers=0)
    faces = {key: len(entry["boxes"]) for key, entry in json.loads((own / "boxes_train.json").read_text()).items()}
    assert sum(faces.values()) >= 5 and faces.keys() <= set(names.values())
    records = build_datamodule(config("condition=face/blur")).read("train", "face")
    assert {r.image_id: len(r.faces) for r in records if r.faces} == {key: n for key, n in faces.items() if n}


@pytest.mark.parametrize("suffix", [".webp", ".bmp", ".tif"])
def test_pictures_of_other_formats_are_checked(own, config, suffix):
    for split in ("train", "val"):
        path = own / "annotations" / f"instances_{split}.json"
        content = json.loads(path.read_text())
        for entry in content["images"]:
            picture = own / split / entry["file_name"]
            Image.open(picture).save(picture.with_suffix(suffix))
            picture.unlink()
            entry["file_name"] = picture.with_suffix(suffix).name
        path.write_text(json.dumps(content))
    splits = check(config())
    assert not report(splits) and splits["train"].images == 7


def test_validation_without_an_object_is_refused(own, config):
    path = own / "annotations" / "instances_val.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"annotations": []}))
    with pytest.raises(UserError, match=r"own has no validation image with a usable annotation"):
        build_datamodule(config()).setup("fit")


def test_validation_takes_no_random_number_of_trainings(own, config):
    """Or a run that is resumed between two validations would go on with others."""
    module = build_datamodule(config("data.num_workers=0"))
    module.setup("fit")
    before = torch.get_rng_state()
    assert sum(len(batch.images) for batch in module.val_dataloader()) == 3
    assert torch.equal(torch.get_rng_state(), before)
