"""Cityscapes' polygon files, damaged, against cityscapesscripts."""

import json
import shutil

import numpy as np
import pytest
from bounds import inputs, read_or_refuse
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.helpers.labels import labels
from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
from hypothesis import given
from hypothesis import strategies as st
from mutations import NUMBERS, documents
from samples import datamodule, read

from datamodules.cityscapes import CLASSES
from datamodules.record import decode

IDS = {label.id: label for label in labels}


@pytest.fixture(scope="module")
def data(streetscenes, tmp_path_factory):
    """The image of a training split with the most objects, alone: its reader, its annotation file and what is in it."""
    source = streetscenes["cityscapes"]
    annotation = max(source.glob("gtFine/train/*/*_polygons.json"), key=lambda p: p.stat().st_size)
    image = source / "leftImg8bit" / "train" / annotation.parent.name
    image /= annotation.name.replace("gtFine_polygons.json", "leftImg8bit.png")
    root = tmp_path_factory.mktemp("cityscapes")
    for path in (annotation, image):
        target = root / path.relative_to(source)
        target.parent.mkdir(parents=True)
        shutil.copyfile(path, target)
    return datamodule("cityscapes", root, "body/blur"), root / annotation.relative_to(source)


def check_equal(record, path):
    """Check that a record has the pixels that cityscapesscripts draws."""
    annotation = Annotation()
    annotation.fromJsonFile(path)
    drawn = np.array(createInstanceImage(annotation, "ids"))
    expected = {}
    for value in np.unique(drawn):
        label = IDS[value // 1000 if value >= 1000 else value]
        if label.name in CLASSES:
            place = (label.name, value < 1000)
            expected.setdefault(place, []).append(drawn == value)
    found = {}
    masks = decode([instance.mask for instance in record.instances], record.size)
    for instance, mask in zip(record.instances, masks, strict=True):
        found.setdefault((CLASSES[instance.label - 1], instance.crowd), []).append(mask > 0)
    # Groups of a class are one there, and each its own here.
    found = {key: [np.any(value, 0)] if key[1] else value for key, value in found.items()}
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)
    ignored = [label.id for label in labels if label.ignoreInEval]
    np.testing.assert_array_equal(decode([record.void], record.size)[0], np.isin(drawn, ignored))


def test_polygons(data):
    module, path = data
    good = json.loads(path.read_text())
    # Unlike most of StreetScenes' objects these have all that the format knows.
    good["objects"] += [{"label": "persongroup", "polygon": [[1, 1], [9, 1], [9, 9]], "deleted": 0, "id": 3}]
    image = next(module.root.glob("leftImg8bit/*/*/*"))
    compared = []

    @inputs(200)
    @given(documents(good))
    def fuzz(content):
        path.write_bytes(content)
        if records := read_or_refuse(lambda: read(module), path, image):
            check_equal(records[0], path)
            compared.append(True)

    fuzz()
    assert compared, "no damaged file was read"


OBJECT = st.fixed_dictionaries(
    {
        "label": st.sampled_from(["person", "car", "cargroup", "road", "license plate", "caravan", "static"]),
        "polygon": st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=6),
    },
    optional={"deleted": st.sampled_from([0, 1, True, "x"])},
)


def test_any_polygons(data):
    module, path = data
    compared = []

    @inputs(100)
    @given(st.lists(OBJECT, max_size=5))
    def fuzz(objects):
        path.write_text(json.dumps({"imgHeight": 64, "imgWidth": 128, "objects": objects}))
        if records := read_or_refuse(lambda: read(module), path):
            check_equal(records[0], path)
            compared.append(True)

    fuzz()
    assert compared, "no damaged file was read"
