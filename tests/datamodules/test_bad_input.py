"""Damaged datasets: each ends in one line that names file and object, or is treated as the official tools treat it."""

import json
import shutil

import numpy as np
import pytest
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.helpers.labels import name2label
from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
from PIL import Image
from pycocotools.coco import COCO

from configs import load_config
from datamodules.coco import to_rle
from datamodules.layouts import LAYOUTS
from datamodules.record import decode
from errors import UserError

BOTH = pytest.mark.parametrize("layout", ["cityscapes", "coco_instances"])


class Data:
    """A small dataset to damage."""

    def __init__(self, layout, root, index):
        self.layout, self.root, self.index = layout, root, index
        if layout == "cityscapes":
            self.images = sorted(root.glob("leftImg8bit/train/*/*.png"))
            self.annotations = sorted(root.glob("gtFine/train/*/*_polygons.json"))
        else:
            self.images = sorted(root.glob("train2017/*"))
            self.annotations = [root / "annotations" / "instances_train2017.json"]

    def edit(self, change):
        content = json.loads(self.annotations[0].read_text())
        change(content)
        self.annotations[0].write_text(json.dumps(content))

    def setup(self, **data):
        overrides = [f"data.root={self.root}", f"data.index_dir={self.index}", "data.num_workers=0"]
        overrides += ["data.geometry=[]", *(f"data.{key}={value}" for key, value in data.items())]
        module = LAYOUTS[self.layout](load_config(f"configs/{self.layout}.yaml", overrides))
        module.setup("fit")
        return module

    def refuses(self, *parts):
        with pytest.raises(UserError) as caught:
            self.setup()
        message = str(caught.value)
        assert all(str(part) in message for part in parts), message
        assert "\n" not in message


@pytest.fixture
def data(layout, streetscenes, tmp_path):
    root = shutil.copytree(streetscenes[layout.partition("_")[0]], tmp_path / "data")
    return Data(layout, root, tmp_path / "index")


@BOTH
def test_truncated_image(data):
    bad = data.images[2]
    bad.write_bytes(bad.read_bytes()[:-100])
    data.refuses(bad, "is truncated")
    with pytest.warns(UserWarning, match=f"left out 1 of 6 images:\n{bad} is truncated"):
        module = data.setup(skip_bad_images="true")
    assert bad not in {r.path for r in module.train} and len(module.train) == 5


@BOTH
def test_image_damaged_in_its_middle_is_named_when_it_is_decoded(data):
    bad = data.images[2]
    content = bytearray(bad.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2 - 12) + content[-12:]
    bad.write_bytes(content)
    record = next(r for r in data.setup().train if r.path == bad)
    if bad.suffix == ".png":
        with pytest.raises(UserError, match=rf"{bad}: image cannot be decoded"):
            record.read_image()
    else:
        assert record.read_image().shape == (*record.size, 3)  # as Pillow does: a JPEG's gaps are grey


@pytest.mark.parametrize("layout", ["cityscapes"])
@pytest.mark.parametrize("polygon", [[[10, 10], [30, 20]], [[10, 10]] * 3])
def test_two_points_or_no_area_are_drawn_as_by_cityscapesscripts(data, polygon):
    data.edit(lambda c: c["objects"].append({"label": "train", "polygon": polygon}))
    annotation = Annotation()
    annotation.fromJsonFile(data.annotations[0])
    expected = np.array(createInstanceImage(annotation, "ids")) // 1000 == name2label["train"].id
    record = next(r for r in data.setup().train if r.path == data.images[0])
    np.testing.assert_array_equal(decode([record.instances[-1].mask], record.size)[0], expected)
    assert expected.any()


@pytest.mark.parametrize("layout", ["coco_instances"])
@pytest.mark.parametrize("segmentation", [[[10, 10, 30, 20]], [[10, 10]], [], [[]], [[1, 2, 5, 6], [1, 1, 8, 1, 8, 8]]])
def test_two_points_are_refused_as_by_pycocotools(data, segmentation):
    def change(content):
        content["annotations"][3]["segmentation"] = segmentation
        data.id = content["annotations"][3]["id"]

    data.edit(change)
    coco = COCO(data.annotations[0])
    with pytest.raises(Exception):  # noqa: B017 pycocotools raises all kinds
        coco.annToMask(coco.anns[data.id])
    data.refuses(data.annotations[0], f"annotation {data.id}: a polygon needs three points")


@pytest.mark.parametrize("more", [[1, 2, 5, 6], [1, 2], [1, 2, 3, 4, 5]])
def test_a_further_polygon_of_two_points_covers_nothing_as_in_pycocotools(more):
    triangle = [1, 1, 8, 1, 8, 8]
    coco = COCO()
    coco.dataset = {"images": [{"id": 1, "height": 10, "width": 12}]}
    coco.createIndex()
    expected = coco.annToMask({"image_id": 1, "segmentation": [triangle, more]})
    np.testing.assert_array_equal(decode([to_rle([triangle, more], (10, 12))], (10, 12))[0], expected)
    np.testing.assert_array_equal(expected, coco.annToMask({"image_id": 1, "segmentation": [triangle]}))


@pytest.mark.parametrize("layout", ["coco_instances"])
@pytest.mark.parametrize("x", [float("nan"), float("inf"), 1e9, "1", None])
def test_a_corner_that_is_no_place(data, x):
    data.edit(lambda c: c["annotations"][0]["segmentation"][0].__setitem__(0, x))
    data.refuses(
        data.annotations[0], f"annotation {json.loads(data.annotations[0].read_text())['annotations'][0]['id']}:"
    )


@pytest.mark.parametrize("layout", ["coco_instances"])
def test_a_box_without_area_is_evaluated_but_not_trained_on(data):
    """pycocotools counts it like any other object; torchvision's models refuse to train on it."""

    def change(content):
        x, y, _, height = content["annotations"][0]["bbox"]
        content["annotations"][0]["bbox"] = [x, y, 0, height]
        data.bad = content["annotations"][0]

    data.edit(change)
    module = data.setup(val_split="train")
    (record,) = [r for r in module.val if r.image_id == str(data.bad["image_id"])]
    place = [i.id for i in record.instances].index(data.bad["id"])
    targets = {t["image_id"]: t for batch in module.val_dataloader() for t in batch.targets}
    box = targets[record.image_id]["boxes"][place]
    assert box[0] == box[2] and len(targets[record.image_id]["boxes"]) == len(record.instances)
    trained = {t["image_id"]: t for batch in module.train_dataloader() for t in batch.targets}
    singles = [i for i in record.instances if not i.crowd]
    target = trained[record.image_id]
    assert len(target["boxes"]) == len(target["labels"]) == len(target["masks"]) == len(singles) - 1


@pytest.mark.parametrize("layout", ["cityscapes"])
def test_annotation_of_another_size(data):
    data.edit(lambda c: c.__setitem__("imgHeight", 999))
    data.refuses(data.images[0], "is 64 × 128 pixels, its annotation says 999 × 128")


@pytest.mark.parametrize("layout", ["coco_instances"])
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"size": [10, 12], "counts": [0, 120]}, "its mask is 10 × 12 pixels, its image 64 × 128"),
        ({"size": [64, 128], "counts": [0, 120]}, "decoded 120 pixels but expected 8192"),
        ({"size": [64, 128], "counts": "0l1"}, "decoded 60 pixels but expected 8192"),
        ({"counts": [0, 8192]}, "has no 'size'"),
        ("mask", "indices"),
    ],
)
def test_mask_of_another_size(data, mask, message):
    data.edit(lambda c: c["annotations"][0].__setitem__("segmentation", mask))
    data.refuses(data.annotations[0], "annotation ", message)


@pytest.mark.parametrize("layout", ["coco_instances"])
@pytest.mark.parametrize("kind", ["images", "annotations", "categories"])
def test_an_id_that_is_there_twice(data, kind):
    def change(content):
        content[kind][1]["id"] = content[kind][0]["id"]
        data.id = content[kind][0]["id"]

    data.edit(change)
    data.refuses(data.annotations[0], f"{kind}: id {data.id} is there twice")


@pytest.mark.parametrize("layout", ["cityscapes"])
def test_an_image_that_is_there_twice(data):
    for folder in ("leftImg8bit", "gtFine"):
        shutil.copytree(data.root / folder / "train" / "birkenfurt", data.root / folder / "train" / "copy")
    data.refuses(
        data.root / "leftImg8bit/train/copy", "its image id birkenfurt_000000_000019 is that of", data.images[0]
    )


@BOTH
def test_unknown_label(data):
    if data.layout == "cityscapes":
        data.edit(lambda c: c["objects"][2].__setitem__("label", "unicorn"))
        data.refuses(data.annotations[0], "object 2: unknown label 'unicorn'")
    else:
        data.edit(lambda c: c["annotations"][2].__setitem__("category_id", 1234))
        data.refuses(data.annotations[0], "annotation ", "category_id 1234 is none of the file's categories")


@pytest.mark.parametrize("layout", ["coco_instances"])
def test_an_annotation_of_no_image_is_left_aside_as_by_pycocotools(data):
    data.edit(lambda c: c["annotations"][0].__setitem__("image_id", 10**9))
    coco = COCO(data.annotations[0])
    records = data.setup().read("train", "none")
    assert sum(len(r.instances) for r in records) == len(coco.getAnnIds(coco.getImgIds())) == len(coco.anns) - 1


@BOTH
@pytest.mark.parametrize("share", [0, 0.5, 0.999])
def test_json_cut_off(data, share):
    bad = data.annotations[0]
    content = bad.read_bytes()
    bad.write_bytes(content[: int(share * len(content))])
    data.refuses(bad, "cannot be read as JSON")


@BOTH
def test_json_that_is_too_deep(data):
    data.annotations[0].write_text("[" * 10**5)
    data.refuses(data.annotations[0], "cannot be read as JSON: maximum recursion depth exceeded")


NO_LISTS = '{"images": {}, "annotations": {}, "categories": {}, "objects": {}, "imgHeight": 64, "imgWidth": 128}'


@pytest.mark.parametrize("layout", ["coco_instances"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": ["1", "2", "3", "4"]}, "are no numbers"),
        ({"bbox": [1, 2, float("nan"), 4]}, "are no numbers"),
        ({"bbox": [5, 5, -2, 4]}, "is negative"),
        ({"area": float("nan")}, "no numbers"),
        ({"iscrowd": "0"}, "'0' is neither 0 nor 1"),
        ({"segmentation": {"size": [64, 128], "counts": [8191.5, 0.5]}}, "'8191.5' is no integer"),
        ({"segmentation": {"size": [64, 128], "counts": [8191, True]}}, "'True' is no integer"),
        ({"id": 1.5}, "'1.5' is no integer"),
    ],
)
def test_a_value_that_python_would_convert(data, change, message):
    data.edit(lambda content: content["annotations"][0].update(change))
    data.refuses(data.annotations[0], "annotation", message)


@BOTH
@pytest.mark.parametrize("size", [64.0, "64", True, 0, -64, 10**9, None])
def test_a_height_that_no_image_has(data, size):
    def change(content):
        content.update(imgHeight=size)
        for image in content.get("images", []):
            image["height"] = size

    data.edit(change)
    data.refuses(data.annotations[0], "no integer" if type(size) is not int else f"an image of {size} × 128 pixels")


@pytest.mark.parametrize("layout", ["cityscapes"])
@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"label": "car", "polygon": [[1, 1], [9, 1], [9, float("nan")]]}, "are no numbers below 100000"),
        ({"label": "car", "polygon": [[1, 1], [9, 1], [9, 1e9]]}, "are no numbers below 100000"),
        ({"label": 3, "polygon": [[1, 1], [9, 1], [9, 9]], "deleted": 1}, "label 3 is no text"),
    ],
)
def test_an_object_that_is_no_place(data, item, message):
    data.edit(lambda content: content["objects"].append(item))
    data.refuses(data.annotations[0], "object ", message)


@pytest.mark.parametrize("layout", ["cityscapes"])
def test_a_png_whose_pixels_do_not_have_their_checksum(data):
    """Pillow would decode it to other pixels without a word."""
    bad = data.images[2]
    content = bytearray(bad.read_bytes())
    start = content.index(b"IDAT") + 4
    length = int.from_bytes(content[start - 8 : start - 4])
    content[start + length] ^= 1  # of the checksum alone: whatever else is damaged, it is it that says so
    bad.write_bytes(content)
    record = next(r for r in data.setup().train if r.path == bad)
    with pytest.raises(UserError, match=rf"{bad}: image cannot be decoded: broken PNG file"):
        record.read_image()


@pytest.mark.parametrize("layout", ["cityscapes"])
@pytest.mark.parametrize("length", [2**32 - 1, 2**31])
def test_a_png_that_claims_gigabytes(data, length):
    bad = data.images[2]
    content = bytearray(bad.read_bytes())
    start = content.index(b"IDAT")
    content[start - 4 : start] = length.to_bytes(4)
    bad.write_bytes(content)
    record = next(r for r in data.setup().train if r.path == bad)
    with pytest.raises(UserError, match=rf"{bad}: image cannot be decoded"):
        record.read_image()


@BOTH
@pytest.mark.parametrize(
    "content", ["[]", "{}", "3", "null", '{"images": 3, "annotations": 3, "objects": 3}', NO_LISTS]
)
def test_json_of_something_else(data, content):
    data.annotations[0].write_text(content)
    data.refuses(data.annotations[0])


@BOTH
def test_links_to_nowhere(data):
    image, annotation = data.images[3], data.annotations[-1]
    content = image.read_bytes()
    image.unlink()
    image.symlink_to("gone")
    data.refuses(image, "is a link to gone: nothing there")
    with pytest.warns(UserWarning, match="left out 1 of 6"):
        assert len(data.setup(skip_bad_images="true").train) == 5
    image.unlink()
    image.write_bytes(content)
    data.setup()
    annotation.unlink()
    annotation.symlink_to("gone")
    data.refuses(annotation, "does not exist")


@BOTH
def test_links_to_somewhere(data, tmp_path):
    image = data.images[3]
    image.rename(tmp_path / "elsewhere")
    image.symlink_to(tmp_path / "elsewhere")
    assert len(data.setup().train) == 6
    Image.new("RGB", (3, 3)).save(tmp_path / "elsewhere", format="png")
    data.refuses(image)


@BOTH
def test_read_only_folder(data):
    paths = [data.root, *data.root.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in paths}
    try:
        assert len(data.setup().train) == 6
        # root may write all the same, so look
        assert {path: path.stat().st_mtime_ns for path in [data.root, *data.root.rglob("*")]} == before
    finally:
        for path in paths:
            path.chmod(0o755)


@BOTH
def test_empty_split(data):
    if data.layout == "cityscapes":
        shutil.rmtree(data.root / "leftImg8bit" / "train")
        data.refuses("no image matches", data.root / "leftImg8bit" / "train")
    else:
        data.edit(lambda c: c.__setitem__("images", []))
        data.refuses(data.annotations[0], "images: there is none")


@BOTH
def test_nothing_to_learn_from(data):
    for annotation in data.annotations:
        content = json.loads(annotation.read_text())
        content["objects" if data.layout == "cityscapes" else "annotations"] = []
        annotation.write_text(json.dumps(content))
    data.refuses(data.root, "has no training image with a usable annotation")
