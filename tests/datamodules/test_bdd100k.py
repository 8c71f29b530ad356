"""The BDD100K reader against pycocotools, its two sources against each other, and a training run through it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from configs import load_config
from datamodules.bdd100k import CLASSES, CROWD, IGNORED, bitmask_objects
from datamodules.layouts import LAYOUTS
from datamodules.record import decode
from datamodules.streetscenes import write
from errors import UserError
from train import train

SIZE, TRAIN, VAL = (96, 192), 16, 4
JSON = "jsons/ins_seg_{}_cocofmt.json"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write("bdd100k", tmp_path_factory.mktemp("bdd100k") / "set", TRAIN, VAL, 0, SIZE, workers=0)


@pytest.fixture
def copy(root, tmp_path):
    return shutil.copytree(root, tmp_path / "copy")


def datamodule(root, *overrides, index=None):
    base = [f"data.root={root}", f"data.index_dir={index or root / 'index'}", "data.num_workers=0"]
    return LAYOUTS["bdd100k"](load_config("configs/bdd100k.yaml", [*base, *overrides]))


def read(root, split="train", region="none", *overrides):
    """Records with paths below the root, so that those of two copies can be compared."""
    records = datamodule(root, *overrides).read(split, region)
    return [replace(r, path=r.path.relative_to(root)) for r in records]


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture
def drawn(tmp_path):
    """Write the bitmask of one training image from rows of (category, attributes, number, left, right)."""

    def draw(*objects, split="train", stem="0000aaaa-0000bbbb", size=(20, 30)):
        pixels = np.zeros((*size, 4), np.uint8)
        for category, attributes, number, left, right in objects:
            pixels[5:15, left:right] = category, attributes, number >> 8, number & 255
        for folder in ("labels/ins_seg/bitmasks", "images/10k"):
            (tmp_path / folder / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"labels/ins_seg/bitmasks/{split}/{stem}.png")
        Image.new("RGB", size[::-1]).save(tmp_path / f"images/10k/{split}/{stem}.jpg")
        return tmp_path

    return draw


# --- The two sources --------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("region", ["none", "body", "face"])
def test_bitmasks_give_the_records_of_the_json(root, copy, region, split):
    shutil.rmtree(copy / "jsons")
    records = read(root, split, region)
    assert read(copy, split, region) == records
    assert sum(len(r.bodies) for r in records) > 0
    assert (sum(len(r.faces) for r in records) > 0) == (region == "face")


def test_a_json_made_of_bitmasks_alone_is_not_trusted(root, copy):
    """to_coco --only-mask writes no ``ignore`` and takes the crowd bit alone for iscrowd."""

    def forget(content):
        for annotation in content["annotations"]:
            del annotation["ignore"]
            annotation["iscrowd"] = False

    edit(copy / JSON.format("train"), forget)
    assert read(copy) == read(root)
    assert any(i.crowd for r in read(root) for i in r.instances)


def test_json_records_equal_pycocotools(root):
    coco = COCO(root / JSON.format("train"))
    records = read(root)
    assert [r.image_id for r in records] == [str(i) for i in sorted(coco.getImgIds())]
    for record in records:
        assert record.path.name == coco.imgs[int(record.image_id)]["file_name"]
        annotations = coco.loadAnns(coco.getAnnIds(int(record.image_id)))
        for instance, annotation in zip(record.instances, annotations, strict=True):
            x, y, w, h = annotation["bbox"]
            assert instance.box == (x, y, x + w, y + h)
            assert CLASSES[instance.label - 1] == coco.cats[annotation["category_id"]]["name"]
            assert (instance.area, instance.crowd) == (annotation["area"], bool(annotation["iscrowd"]))
            np.testing.assert_array_equal(decode([instance.mask], record.size)[0], coco.annToMask(annotation))


def test_ignore_in_the_json_counts_as_crowd(copy):
    def ignore(content):
        content["annotations"][0] |= {"iscrowd": 0, "ignore": 1}

    edit(copy / JSON.format("train"), ignore)
    first = json.loads((copy / JSON.format("train")).read_text())["annotations"][0]["image_id"]
    assert next(r for r in read(copy) if r.image_id == str(first)).instances[0].crowd


CODES = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 15), st.integers(0, 3), st.integers(0, 255)), min_size=1, max_size=4
)


@given(CODES, st.tuples(st.integers(1, 6), st.integers(1, 6)), st.randoms())
def test_objects_are_what_a_look_at_every_pixel_finds(codes, size, random):
    rows = [[random.choice(codes) for _ in range(size[1])] for _ in range(size[0])]
    expected = {}
    for y, row in enumerate(rows):
        for x, (red, green, blue, alpha) in enumerate(row):
            if red:
                expected.setdefault((red, green, blue * 256 + alpha), set()).add((y, x))
    objects = bitmask_objects(np.array(rows, np.uint8))
    found = {o[:3]: set(map(tuple, np.argwhere(decode([o.mask], size)[0]).tolist())) for o in objects}
    assert found == expected
    assert [o.number for o in objects] == sorted(o.number for o in objects)


# --- What is read -----------------------------------------------------------------------------------------


def test_people_are_pedestrians_that_count(drawn):
    root = drawn(
        *[(1, 0, 1, 0, 3), (1, 0b1100, 2, 3, 6), (1, CROWD, 3, 6, 9), (1, IGNORED, 4, 9, 12)],
        *[(2, 0, 5, 12, 15), (3, IGNORED | CROWD, 6, 15, 18), (8, 0, 300, 18, 21)],
    )
    (record,) = read(root, "train", "body")
    names = [(CLASSES[i.label - 1], i.crowd) for i in record.instances]
    pedestrians = [("pedestrian", False)] * 2 + [("pedestrian", True)] * 2
    assert names == [*pedestrians, ("rider", False), ("car", True), ("bicycle", False)]
    assert [id_ for id_, _ in record.bodies] == [0, 1]
    assert record.instances[6].box == (18, 5, 21, 15) and record.instances[6].area == 30
    assert (record.image_id, record.size) == ("1", (20, 30))


def test_faces_go_by_the_number_of_the_image(drawn):
    root = drawn((1, 0, 1, 0, 9))
    drawn((1, 0, 1, 0, 9), stem="ffff0000-00000000")
    (root / "face_boxes_train.json").write_text(json.dumps({"2": [[1, 5, 4, 8.5]]}))
    first, second = read(root, "train", "face")
    assert (first.faces, second.faces) == ([], [(0, [1, 5, 4, 8.5])])
    assert second.path.stem == "ffff0000-00000000"


def test_an_ignored_class_is_background_but_its_people_are_anonymized(root, copy):
    records = read(copy, "train", "body", "data.ignore_classes=[pedestrian]")
    for record, whole in zip(records, read(root, "train", "body"), strict=True):
        assert [i.label + 1 for i in record.instances] == [i.label for i in whole.instances if i.label > 1]
        assert record.bodies == whole.bodies


# --- Mistakes ---------------------------------------------------------------------------------------------


def bitmask(root):
    return next((root / "labels/ins_seg/bitmasks/train").iterdir())


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def rename(category, name):
    return lambda content: content["categories"][category].update(name=name)


@pytest.mark.parametrize(
    ("json_stays", "damage", "message"),
    [
        (False, lambda root: cut(bitmask(root)), r"bitmasks/train/.*\.png: bitmask cannot be decoded"),
        (False, lambda root: Image.new("RGB", SIZE).save(bitmask(root)), "is no bitmask, which is RGBA, but RGB"),
        (False, lambda root: Image.new("RGBA", SIZE, (9, 0, 0, 4)).save(bitmask(root)), "object 4: category 9 is none"),
        (False, lambda root: shutil.rmtree(root / "labels"), "no image is annotated by .*json or .*png"),
        (True, lambda root: cut(root / JSON.format("train")), "cocofmt.json: cannot be read as JSON"),
        (True, lambda root: edit(root / JSON.format("train"), rename(0, "pedestrain")), "did you mean 'pedestrian'"),
        (True, lambda root: edit(root / JSON.format("train"), lambda c: c.pop("images")), "images: has no 'images'"),
        (True, lambda root: (root / "face_boxes_train.json").write_text('{"999": []}'), "none of its image ids"),
    ],
)
def test_mistakes_name_their_file(copy, json_stays, damage, message):
    if not json_stays:
        shutil.rmtree(copy / "jsons")
    damage(copy)
    with pytest.raises(UserError, match=message):
        read(copy, "train", "face")


def test_an_image_that_is_missing_is_named(copy):
    next((copy / "images/10k/val").iterdir()).unlink()
    with pytest.raises(UserError, match=r"images/10k/val/.*\.jpg is missing"):
        datamodule(copy).setup("fit")


# --- Evaluation and training ------------------------------------------------------------------------------


def predictions(targets):
    """Masks of the ground truth, moved a little, some doubled, with random scores; crowds too."""
    rng = np.random.default_rng(0)
    for target in targets:
        masks, labels = [], []
        for mask, label in zip(target["masks"], target["labels"].tolist(), strict=True):
            for _ in range(rng.integers(1, 3)):
                moved = np.roll(decode([mask], target["size"])[0], rng.integers(-1, 2, 2), (0, 1))
                masks.append(coco_mask.encode(np.asfortranarray(moved)))
                labels.append(label)
        boxes = torch.from_numpy(coco_mask.toBbox(masks))
        boxes[:, 2:] += boxes[:, :2]
        scores = torch.from_numpy(rng.random(len(masks)))
        yield {"boxes": boxes, "scores": scores, "labels": torch.tensor(labels), "masks": masks}


@pytest.mark.parametrize("source", ["json", "bitmasks"])
def test_ap_is_pycocotools_on_the_toolkits_json(root, copy, source):
    if source == "bitmasks":
        shutil.rmtree(copy / "jsons")
    module = datamodule(copy, "data.val_split=train")
    module.setup("validate")
    targets = [target for batch in module.val_dataloader() for target in batch.targets]
    assert sum(t["iscrowd"].sum().item() for t in targets) > 3
    found = list(predictions(targets))
    (metric,) = module.metrics()
    metric.update(found, targets)
    result = metric.compute()

    truth = COCO(root / JSON.format("train"))
    rows = []
    for target, prediction in zip(targets, found, strict=True):
        columns = prediction["labels"].tolist(), prediction["scores"].tolist(), prediction["masks"]
        for label, score, mask in zip(*columns, strict=True):
            rows.append({"image_id": int(target["image_id"]), "category_id": label, "score": score})
            rows[-1]["segmentation"] = mask
    for task in ("bbox", "segm"):
        evaluation = COCOeval(truth, truth.loadRes([dict(row) for row in rows]), task)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert result[f"{task}/AP"] == pytest.approx(100 * evaluation.stats[0], abs=1e-9)
        assert result[f"{task}/AP50"] == pytest.approx(100 * evaluation.stats[1], abs=1e-9)
        for place, name in enumerate(CLASSES):
            precision = evaluation.eval["precision"][:, :, place, 0, 2]
            wanted = 100 * precision[precision > -1].mean() if (precision > -1).any() else np.nan
            assert result[f"{task}/AP_{name}"] == pytest.approx(wanted, abs=1e-9, nan_ok=True)


def test_a_run_draws_trains_and_evaluates(tmp_path):
    scenes = ["train=8", "val=2", "size=[96,192]"]
    data = ["data.layout=bdd100k", f"data.root={tmp_path / 'set'}", *[f"data.streetscenes.{item}" for item in scenes]]
    small = ["model.weights=null", "model.min_size=[64]", "model.max_size=128", "data.batch_size=2"]
    steps = ["trainer.max_steps=2", "trainer.log_every_n_steps=1", "trainer.accelerator=cpu"]
    output = [f"output_dir={tmp_path}", f"data.index_dir={tmp_path}", "wandb.mode=disabled"]
    train(load_config("configs/quickstart.yaml", ["condition=body/mask_out", *data, *small, *steps, *output]))
    results = json.loads((tmp_path / "quickstart-body-mask_out-seed0" / "results.json").read_text())
    assert {"val/segm/AP", "val/segm/AP50", "val/bbox/AP", "val/segm/AP_car"} <= results["metrics"].keys()
    assert results["steps"] == 2 and results["anonymized_regions"] > 0
