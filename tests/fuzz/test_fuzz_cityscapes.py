"""Cityscapes' polygon files, damaged."""

import json
import shutil

import pytest
from bounds import inputs, read_or_refuse
from hypothesis import given
from hypothesis import strategies as st
from mutations import documents
from samples import datamodule, read


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


def test_polygons(data):
    module, path = data
    good = json.loads(path.read_text())
    # Unlike most of StreetScenes' objects these have all that the format knows.
    good["objects"] += [{"label": "persongroup", "polygon": [[1, 1], [9, 1], [9, 9]], "deleted": 0, "id": 3}]
    image = next(module.root.glob("leftImg8bit/*/*/*"))

    @inputs(200)
    @given(documents(good))
    def fuzz(content):
        path.write_bytes(content)
        read_or_refuse(lambda: read(module), path, image)

    fuzz()


NUMBER = st.integers(-300, 300) | st.floats()
OBJECT = st.fixed_dictionaries(
    {
        "label": st.sampled_from(["person", "car", "cargroup", "road", "license plate", "caravan", "static"]),
        "polygon": st.lists(st.tuples(NUMBER, NUMBER), max_size=6),
    },
    optional={"deleted": st.sampled_from([0, 1, True, "x"])},
)


def test_any_polygons(data):
    module, path = data

    @inputs(100)
    @given(st.lists(OBJECT, max_size=5))
    def fuzz(objects):
        path.write_text(json.dumps({"imgHeight": 64, "imgWidth": 128, "objects": objects}))
        read_or_refuse(lambda: read(module), path)

    fuzz()
