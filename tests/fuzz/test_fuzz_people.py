"""The files that say who is in an image, faces and keypoints, damaged, against a plain reading of them."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
from bounds import inputs, read_or_refuse
from hypothesis import given
from hypothesis import strategies as st
from mutations import NUMBERS, damaged_pngs, documents, mutated, to_json
from PIL import Image
from samples import datamodule, read

from datamodules.folder import FolderRecords, given_bodies, given_faces
from datamodules.keypoints import MIN_SCORE
from datamodules.regions import face_boxes

POINTS = st.lists(NUMBERS, min_size=4, max_size=4)


def without_end(name):
    return name.removesuffix("_leftImg8bit.png")


@pytest.fixture
def root(streetscenes, tmp_path):
    return lambda layout: shutil.copytree(streetscenes[layout], tmp_path / layout)


@pytest.mark.parametrize("layout", ["cityscapes", "bdd100k"])
def test_faces(root, layout):
    module = datamodule(layout, root(layout), "face/blur")
    path = module.faces_file("train")
    good = json.loads(path.read_text())
    ids = sorted(good)
    right = st.dictionaries(st.sampled_from(ids), st.lists(POINTS.map(sorted), max_size=3)).map(to_json)

    compared = []

    @inputs(40)
    @given(documents(good) | mutated(good, 1).map(to_json) | right)
    def fuzz(data):
        path.write_bytes(data)
        # What lies outside of an image is found when the image is trained on, and named by it.
        records = read_or_refuse(lambda: read(module), path, module.root / module.image_folder("train"))
        if records is not None:
            content = {without_end(image): boxes for image, boxes in json.loads(data).items()}
            for record in records:
                expected = [[float(x) for x in box[:4]] for box in content.get(record.image_id, [])]
                assert record.faces == list(enumerate(expected))
                compared.append(True)

    fuzz()
    assert compared, "no damaged file was read"


def test_owned_faces(root):
    module = datamodule("coco_instances", root("coco"), "face/blur")
    path = module.faces_file("train")
    good = json.loads(path.read_text())
    people_file = json.loads((module.root / "annotations/person_keypoints_train2017.json").read_text())
    people = {}
    for person in people_file["annotations"]:
        if person["num_keypoints"]:
            people.setdefault(str(person["image_id"]), []).append(person["id"])

    compared = []

    @inputs(40)
    @given(documents(good) | mutated(good, 1).map(to_json))
    def fuzz(data):
        path.write_bytes(data)
        records = read_or_refuse(lambda: read(module), path, module.root / module.image_folder("train"))
        if records is not None:
            content = {int(image): entry for image, entry in json.loads(data).items()}
            for record in records:
                entry = content.get(int(record.image_id), {"boxes": [], "keypoint_indices": []})
                owners = [people[record.image_id][place] for place in entry["keypoint_indices"]]
                boxes = [[float(x) for x in box[:4]] for box in entry["boxes"]]
                assert record.faces == list(zip(owners, boxes, strict=True))
                compared.append(True)

    fuzz()
    assert compared, "no damaged file was read"


@pytest.mark.parametrize("layout", ["cityscapes", "bdd100k"])
def test_keypoints(root, layout):
    module = datamodule(layout, root(layout), "body/realistic")
    path = module.keypoints_file("train")
    good = json.loads(path.read_text())

    compared = []

    @inputs(40)
    @given(documents(good) | mutated(good, 1).map(to_json))
    def fuzz(data):
        path.write_bytes(data)
        records = read_or_refuse(lambda: read(module), path, module.root)
        if records is not None:
            content = {without_end(image): entry for image, entry in json.loads(data).items()}
            for record in records:
                entry = content.get(record.image_id, [])
                rows = entry["keypoints"] if isinstance(entry, dict) else entry
                found = sorted(joints.tolist() for joints in record.keypoints.values())
                rows = [
                    [(*row[:2], row[2] >= MIN_SCORE) for row in np.float32(person).reshape(17, 3)] for person in rows
                ]
                assert found == sorted(np.float32(rows).reshape(-1, 17, 3).tolist())
                compared.append(True)

    fuzz()
    assert compared, "no damaged file was read"


def test_folder(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    names = ["a.png", "b.png"]
    for name in names:
        Image.new("RGB", (40, 30)).save(pictures / name)
    path = tmp_path / "boxes.json"
    good = {"a.png": [[1, 2, 9, 12], [20.5, 3, 30, 20]], "b.png": []}
    outside = {"../pictures/a.png": [], str(pictures / "a.png"): [], "a\0.png": [], ".": [], "": []}

    def look():
        records = FolderRecords(pictures, given_faces(path, pictures))
        records = [records[place] for place in range(len(records))]
        return records, [face_boxes(record) for record in records]

    compared = []

    @inputs(150)
    @given(
        documents(good)
        | mutated(good, 1).map(to_json)
        | mutated(good | {name: [[1, 2, 3, 4]] for name in outside}).map(to_json)
    )
    def fuzz(data):
        path.write_bytes(data)
        read = read_or_refuse(look, path, pictures)
        if read is not None:
            content = json.loads(data)
            assert content.keys() == set(names)
            for record, boxes in zip(*read, strict=True):
                given_boxes = np.float32(content[record.image_id]).reshape(-1, 4)
                np.testing.assert_array_equal(boxes, np.clip(given_boxes, 0, [40, 30, 40, 30]))
                compared.append(True)

    fuzz()
    assert compared, "no damaged file was read"


def test_folder_of_masks(tmp_path):
    pictures, masks = tmp_path / "pictures", tmp_path / "masks"
    for folder in (pictures, masks):
        folder.mkdir()
    Image.new("RGB", (40, 30)).save(pictures / "a.png")
    path = masks / "a.png"
    numbers = np.zeros((30, 40), np.uint8)
    numbers[3:20, 5:12], numbers[10:25, 20:30] = 1, 200
    Image.fromarray(numbers).save(path)
    good = path.read_bytes()
    find = partial(given_bodies(masks, masks.parent / "pictures"), "a.png", np.zeros((30, 40, 3), np.uint8))

    @inputs(150)
    @given(damaged_pngs(good))
    def fuzz(data):
        path.write_bytes(data)
        read_or_refuse(find, path)

    fuzz()
