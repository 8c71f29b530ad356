"""BDD100K's bitmasks and its file in COCO's format, damaged, against NumPy and pycocotools."""

import json
import shutil

import numpy as np
import pytest
from bounds import inputs, read_or_refuse
from coco_reading import check_equal
from hypothesis import given
from hypothesis import strategies as st
from mutations import damaged_pngs, documents
from PIL import Image
from samples import datamodule, read

from datamodules.bdd100k import CROWD, IGNORED, read_bitmask
from datamodules.record import decode


@pytest.fixture
def module(streetscenes, tmp_path):
    """The reader of a training split with the one image that has the most people."""
    source, root = streetscenes["bdd100k"], tmp_path / "bdd100k"
    content = json.loads((source / "jsons/ins_seg_train_cocofmt.json").read_text())
    ids = [annotation["image_id"] for annotation in content["annotations"]]
    chosen = max(ids, key=ids.count)
    content["images"] = [image for image in content["images"] if image["id"] == chosen]
    content["annotations"] = [annotation for annotation in content["annotations"] if annotation["image_id"] == chosen]
    name = content["images"][0]["file_name"]
    for folder in ("jsons", "images/10k/train", "labels/ins_seg/bitmasks/train"):
        (root / folder).mkdir(parents=True)
    (root / "jsons/ins_seg_train_cocofmt.json").write_text(json.dumps(content))
    shutil.copy(source / "images/10k/train" / name, root / "images/10k/train")
    bitmask = name.replace(".jpg", ".png")
    shutil.copy(source / "labels/ins_seg/bitmasks/train" / bitmask, root / "labels/ins_seg/bitmasks/train")
    return datamodule("bdd100k", root, "body/blur")


def test_converted(module):
    path = module.converted_file("train")
    good = json.loads(path.read_text())
    folder = module.root / module.image_folder("train")
    path_of_bitmasks = module.bitmask_folder("train")
    compared = []

    @inputs(100)
    @given(documents(good))
    def fuzz(data):
        path.write_bytes(data)
        records = read_or_refuse(lambda: read(module), path, folder, path_of_bitmasks)
        content = json.loads(data) if records is not None else None
        if records is not None and all("ignore" in annotation for annotation in content["annotations"]):
            # The reader goes by the ids.
            content["annotations"].sort(key=lambda annotation: annotation["id"])
            check_equal(records, module.classes, content)
            compared.append(True)

    fuzz()
    assert compared, "no damaged file was read"


def check_objects(record, pixels):
    """Check that a record has the objects that a look at all pixels finds."""
    values = {tuple(value) for value in pixels.reshape(-1, 4).tolist() if value[0]}
    # The order of two values of one number is left open.
    expected = sorted(values, key=lambda value: (value[2] * 256 + value[3], *value))
    assert len(record.instances) == len(expected)
    masks = decode([instance.mask for instance in record.instances], record.size)
    found = []
    for instance, mask in zip(record.instances, masks, strict=True):
        covered = pixels[mask > 0]
        assert (covered == covered[0]).all() and len(covered) == (pixels == covered[0]).all(-1).sum() == instance.area
        category, attributes, *_ = value = tuple(covered[0].tolist())
        assert instance.label == category and instance.crowd == bool(attributes & (CROWD | IGNORED))
        found.append(value)
    assert sorted(found, key=lambda value: (value[2] * 256 + value[3], *value)) == expected


def test_damaged_bitmasks(module):
    module.converted_file("train").unlink()
    (path,) = module.bitmask_folder("train").iterdir()
    (image,) = (module.root / module.image_folder("train")).iterdir()
    good = path.read_bytes()
    compared = []

    @inputs(150)
    @given(damaged_pngs(good))
    def fuzz(data):
        path.write_bytes(data)
        if records := read_or_refuse(lambda: read(module), path, image):
            check_objects(records[0], read_bitmask(path))
            compared.append(True)

    fuzz()
    assert compared, "no damaged file was read"


VALUE = st.tuples(st.integers(0, 9), st.integers(0, 15), st.integers(0, 2), st.integers(0, 3))


def test_any_bitmask(module):
    module.converted_file("train").unlink()
    (path,) = module.bitmask_folder("train").iterdir()
    (image,) = (module.root / module.image_folder("train")).iterdir()
    height, width = read_bitmask(path).shape[:2]

    @inputs(100)
    @given(st.lists(VALUE, min_size=1, max_size=6), st.integers(0, 2**32 - 1))
    def fuzz(values, seed):
        chosen = np.random.default_rng(seed).integers(0, len(values), (height // 8, width // 8))
        pixels = np.array(values, np.uint8)[chosen].repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels).save(path, compress_level=1)
        if records := read_or_refuse(lambda: read(module), path, image):
            check_objects(records[0], pixels)
        else:
            assert pixels[..., 0].max() == 9

    fuzz()
