"""What generators are told of people's poses, against the joints in the datasets' files."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from faster_coco_eval.core import mask as mask_api
from PIL import Image

from configs import load_config
from datamodules.base import DetectionDataset
from datamodules.geometry import MIRRORED, Geometry
from datamodules.layouts import LAYOUTS
from datamodules.record import Record
from datamodules.regions import record_regions
from errors import UserError

# The file with the keypoints, and whether a file says whose face a face is.
FILES = {
    "cityscapes": "annotated_keypoints_train.json",
    "bdd100k": "annotated_keypoints_train.json",
    "coco_instances": "annotations/person_keypoints_train2017.json",
    "coco_keypoints": "annotations/person_keypoints_train2017.json",
}
FACES = ("coco_instances", "coco_keypoints")
CASES = [(layout, "body/realistic") for layout in FILES] + [(layout, "face/realistic") for layout in FACES]
each_case = pytest.mark.parametrize(("layout", "condition"), CASES)


@pytest.fixture
def read(streetscenes, tmp_path):
    def read(layout, condition, root=None):
        root = root or streetscenes[layout.partition("_")[0]]
        data = [f"data.layout={layout}", f"data.root={root}", f"data.index_dir={tmp_path}", "data.streetscenes=null"]
        generators = ["generators.body=unused", "generators.face=unused"]
        config = load_config("configs/quickstart.yaml", [*data, *generators, f"condition={condition}"])
        return LAYOUTS[layout](config).read("train", config.condition.partition("/")[0])

    return read


@pytest.fixture
def copy(streetscenes, tmp_path):
    return lambda layout: shutil.copytree(streetscenes[layout.partition("_")[0]], tmp_path / "copy")


def dataset(records, region, *transforms):
    keys = {"with_masks": True, "with_keypoints": False, "seed": 0, "anonymization_seed": 3, "training": True}
    return DetectionDataset(records, geometry=Geometry(list(transforms)), region=region, **keys)


def entries(root, layout, image_id):
    """The file's joints of an image's people: [N, 17, 3], the last above 0 where known and highest where seen."""
    content = json.loads((root / FILES[layout]).read_text())
    if layout in FACES:
        rows = [a["keypoints"] for a in content["annotations"] if str(a["image_id"]) == image_id]
    else:
        entry = content.get(image_id, [])
        rows = entry["keypoints"] if isinstance(entry, dict) else entry
    return np.array(rows, np.float32).reshape(-1, 17, 3)


def in_image(regions):
    """The keypoints of regions in pixels of the image: float [P, 17, 3]."""
    keypoints, boxes = regions.keypoints.numpy().copy(), regions.crop_boxes.numpy()
    h, w = regions.masks.shape[1:]
    for person, (x0, y0, x1, y1) in zip(keypoints, boxes.tolist(), strict=True):
        person[:, 0] = x0 + person[:, 0] * (x1 - x0) / w
        person[:, 1] = y0 + person[:, 1] * (y1 - y0) / h
    return keypoints


@each_case
def test_people_get_the_joints_in_the_files(streetscenes, read, layout, condition):
    region, root = condition.partition("/")[0], streetscenes[layout.partition("_")[0]]
    seen = 0
    for record in read(layout, condition):
        regions, given = record_regions(record, region, 0), entries(root, layout, record.image_id)
        people = zip(in_image(regions), regions.keypoints, regions.masks, regions.paste_boxes.tolist(), strict=True)
        for person, crop, mask, (x0, y0, x1, y1) in people:
            known = person[:, 2] > 0
            if not known.any():
                continue
            alike = [g for g in given if np.array_equal(g[:, 2] > 0, known)]
            (owner,) = (g for g in alike if np.abs(g - person)[known, :2].max() < 1e-2)
            is_seen = owner[:, 2] == given[..., 2].max()
            if region == "face":
                x, y = person[0, :2]
                assert not known[0] or (x0 - 1 < x < x1 + 1 and y0 - 1 < y < y1 + 1)
                seen += 1
            else:
                x, y = crop[is_seen, :2].long().T
                assert mask[y, x].all()
                seen += len(x)
    assert seen > (100 if region == "body" else 5)


@each_case
def test_a_mirror_swaps_left_and_right(read, layout, condition):
    region, records = condition.partition("/")[0], read(layout, condition)
    plain, mirrored = dataset(records, region), dataset(records, region, {"HorizontalFlip": {"p": 1}})
    compared = 0
    for index, record in enumerate(records):
        regions, regions_m = plain[index][2], mirrored[index][2]
        places = [regions.seeds.tolist().index(seed) for seed in regions_m.seeds.tolist()]
        expected = in_image(regions)[places][:, MIRRORED]
        known = expected[..., 2] > 0
        expected[..., 0] = record.size[1] - expected[..., 0]
        assert np.array_equal(regions_m.keypoints[..., 2].numpy() > 0, known)
        np.testing.assert_allclose(in_image(regions_m)[known], expected[known], atol=1e-3)
        compared += known.sum()
    assert compared > 30


@each_case
def test_training_and_a_copy_know_the_same(read, layout, condition):
    region, records = condition.partition("/")[0], read(layout, condition)
    training = dataset(records, region)
    known = 0
    for index, record in enumerate(records):
        keypoints = record_regions(record, region, 3).keypoints
        assert torch.equal(keypoints, training[index][2].keypoints)
        known += int((keypoints[..., 2] > 0).sum())
    assert known > 30


def test_joints_outside_the_image_stay_known(tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    mask = np.zeros((40, 60), np.uint8, order="F")
    mask[5:35, :20] = 1
    joints = np.zeros((17, 3), np.float32)
    joints[3], joints[5] = (-4, 10, 1), (7, 10, 0)
    record = Record("a", tmp_path / "a.png", (40, 60), [], bodies=[(7, mask_api.encode(mask))], keypoints={7: joints})
    own, trained = record_regions(record, "body", 3), dataset([record], "body")[0][2]
    assert torch.equal(own.keypoints, trained.keypoints)
    np.testing.assert_allclose(in_image(own)[0, 3], (-4, 10, 1), atol=1e-4)
    assert own.keypoints[0].count_nonzero() == np.count_nonzero(own.keypoints[0, 3])
    pose = {8: joints}
    assert not record_regions(replace(record, keypoints=pose), "body", 3).keypoints.any(), "of somebody else"


@pytest.mark.parametrize("condition", ["face/realistic", "body/blur", "face/blur", "original"])
@pytest.mark.parametrize("layout", FILES)
def test_others_are_read_without(read, layout, condition):
    known = [record for record in read(layout, condition) if record.keypoints]
    assert bool(known) == (condition == "face/realistic" and layout in FACES)


@pytest.mark.parametrize("layout", ["cityscapes", "bdd100k"])
def test_without_a_file_nobody_has_keypoints_and_with_one_they_do(copy, read, layout):
    root = copy(layout)
    file, aside = root / FILES[layout], root / "aside"
    for there in (True, False, True):
        if not there:
            file.rename(aside)
        elif aside.exists():
            aside.rename(file)
        assert any(record.keypoints for record in read(layout, "body/realistic", root)) == there
        assert not any(record.keypoints for record in read(layout, "body/blur", root))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: entry[:-1], "image {}: keypoints of"),
        (lambda entry: [entry[0][:16], *entry[1:]], "image {}: .*reshape|image {}: .*no numbers"),
        (lambda entry: [[[1, float("nan"), 1]] * 17, *entry[1:]], "image {}: .* no numbers below"),
        (lambda entry: 3, "image {}: "),
        (None, "none of its images is in the split"),
    ],
)
@pytest.mark.parametrize("layout", ["cityscapes", "bdd100k"])
def test_a_file_that_does_not_fit_stops_only_who_needs_it(copy, read, layout, change, message):
    root = copy(layout)
    file = root / FILES[layout]
    content = json.loads(file.read_text())
    image, entry = max(content.items(), key=lambda item: len(json.dumps(item[1])))
    if change is None:
        content = {"elsewhere": entry}
    elif isinstance(entry, dict):
        content[image] = {"keypoints": change(entry["keypoints"])}
    else:
        content[image] = change(entry)
    file.write_text(json.dumps(content))
    assert len(read(layout, "body/blur", root)) == 6
    with pytest.raises(UserError, match=rf"annotated_keypoints_train\.json: ({message.format(image, image)})"):
        read(layout, "body/realistic", root)
