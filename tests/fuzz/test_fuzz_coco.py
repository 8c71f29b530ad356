"""COCO's annotation files, damaged, against pycocotools; and its run lengths against a slow reading."""

import json
import shutil

import numpy as np
import pytest
from bounds import inputs, read_or_refuse
from coco_reading import check_equal
from hypothesis import given
from hypothesis import strategies as st
from mutations import NUMBERS, VALUES, documents, mutated_bytes
from pycocotools import mask as official
from samples import datamodule, read

from datamodules.coco import to_rle
from datamodules.files import naming
from datamodules.record import decode


@pytest.fixture(scope="module")
def root(streetscenes, tmp_path_factory):
    """The images of a training split with the most people and with the fewest, and their annotations."""
    source = streetscenes["coco"]
    root = tmp_path_factory.mktemp("coco")
    people = json.loads((source / "annotations/person_keypoints_train2017.json").read_text())
    counts = [annotation["image_id"] for annotation in people["annotations"]]
    chosen = {max(counts, key=counts.count), min(counts, key=counts.count)}
    for folder in ("annotations", "train2017"):
        (root / folder).mkdir()
    for task in ("instances", "person_keypoints"):
        content = json.loads((source / f"annotations/{task}_train2017.json").read_text())
        content["images"] = [image for image in content["images"] if image["id"] in chosen]
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in chosen]
        used = {annotation["category_id"] for annotation in content["annotations"]}
        content["categories"] = [category for category in content["categories"] if category["id"] in used]
        (root / f"annotations/{task}_train2017.json").write_text(json.dumps(content))
    for image in content["images"]:
        shutil.copy(source / "train2017" / image["file_name"], root / "train2017")
    return root


@pytest.mark.parametrize(
    ("task", "condition"),
    [("instances", "original"), ("person_keypoints", "body/realistic"), ("person_keypoints", "face/blur")],
)
def test_annotations(root, tmp_path, task, condition):
    copy = shutil.copytree(root, tmp_path / "copy")
    path = copy / f"annotations/{task}_train2017.json"
    good = json.loads(path.read_text())
    if condition == "face/blur":
        (copy / "boxes_train2017.json").write_text("{}")
    module = datamodule("coco_keypoints" if task == "person_keypoints" else "coco_instances", copy, condition)
    compared = []

    @inputs(60)
    @given(documents(good))
    def fuzz(content):
        path.write_bytes(content)
        records = read_or_refuse(lambda: read(module), path, copy / "train2017", copy / "boxes_train2017.json")
        if records is not None:
            check_equal(records, module.plan("train", "none").classes, json.loads(content))
            compared.append(True)

    fuzz()
    assert compared, "no damaged file was read"


def test_the_people_of_ones_own(root, tmp_path):
    shutil.copytree(root / "train2017", tmp_path / "train")
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations/instances_train.json"
    good = json.loads((root / "annotations/instances_train2017.json").read_text())
    module = datamodule("own", tmp_path, "body/blur")
    compared = []

    @inputs(60)
    @given(documents(good))
    def fuzz(data):
        path.write_bytes(data)
        records = read_or_refuse(lambda: read(module), path, tmp_path / "train")
        if records is not None:
            content = json.loads(data)
            check_equal(records, module.plan("train", "none").classes, content)
            compared.append(True)
            (person,) = (category["id"] for category in content["categories"] if category["name"] == "person")
            for record in records:
                of_image = [a for a in content["annotations"] if str(a["image_id"]) == record.image_id]
                assert [id_ for id_, _ in record.bodies] == [a["id"] for a in of_image if a["category_id"] == person]

    fuzz()
    assert compared, "no damaged file was read"


def runs_of(text):
    """Decode COCO's compressed run lengths, digit by digit of base 32, as its C code does; None for what ends early."""
    runs, value, shift = [], 0, 0
    for letter in text:
        digit = ord(letter) - 48
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            runs.append((value - (1 << shift) if digit & 16 else value) + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return None if shift else runs


@st.composite
def run_lengths(draw):
    """Draw the size and run lengths of a mask, plain or compressed, right or damaged."""
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    runs = draw(st.lists(st.integers(0, 9), max_size=9))
    while sum(runs) > height * width:
        runs.pop()
    runs.append(height * width - sum(runs))
    damaged = draw(st.booleans())
    if draw(st.booleans()):
        place = draw(st.integers(0, len(runs)))
        return height, width, runs if not damaged else [*runs[:place], draw(VALUES), *runs[place + 1 :]]
    text = official.frPyObjects({"size": [height, width], "counts": runs}, height, width)["counts"]
    return height, width, (draw(mutated_bytes(text, 2)) if damaged else text).decode(errors="replace")


def test_run_lengths(tmp_path):
    compared = []

    @inputs(400)
    @given(run_lengths())
    def fuzz(drawn):
        height, width, counts = drawn

        def read():
            with naming(tmp_path, "mask"):
                return to_rle({"size": [height, width], "counts": counts}, (height, width))

        mask = read_or_refuse(read, tmp_path)
        runs = counts if isinstance(counts, list) else runs_of(counts)
        valid = runs is not None and all(type(run) is int and run >= 0 for run in runs) and sum(runs) == height * width
        if mask is None:
            assert not valid or isinstance(counts, str)
        else:
            assert valid
            pixels = np.repeat(np.arange(len(runs)) % 2, runs)
            np.testing.assert_array_equal(decode([mask], (height, width))[0], pixels.reshape(width, height).T)
            compared.append(True)

    fuzz()
    assert compared, "no damaged file was read"


def test_any_polygons(tmp_path):
    compared = []

    @inputs(200)
    @given(st.lists(st.lists(NUMBERS, min_size=5, max_size=9), max_size=3), st.integers(1, 50), st.integers(1, 50))
    def fuzz(polygons, height, width):
        def read():
            with naming(tmp_path, "mask"):
                return to_rle(polygons, (height, width))

        mask = read_or_refuse(read, tmp_path)
        if mask is not None:
            expected = official.decode(official.merge(official.frPyObjects(polygons, height, width)))
            np.testing.assert_array_equal(decode([mask], (height, width))[0], expected)
            compared.append(True)

    fuzz()
    assert compared, "no damaged file was read"
