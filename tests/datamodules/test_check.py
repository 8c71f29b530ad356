"""What `datamodules.check` says of whole and damaged datasets."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import load_config
from datamodules import check as module
from datamodules.check import Kind, check, report
from datamodules.layouts import LAYOUTS
from datamodules.streetscenes import write
from errors import UserError

REPOSITORY = Path(__file__).parents[2]
FILES = {"cityscapes": "cityscapes", "coco_instances": "coco", "coco_keypoints": "coco", "bdd100k": "bdd100k"}
ALWAYS = {Kind.COUNT, Kind.ODD_SIZE}  # of StreetScenes, which is smaller than the real datasets


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    return {name: write(name, folder / name, 6, 2, 0, (64, 128), workers=0) for name in set(FILES.values())}


@pytest.fixture
def copy(roots, tmp_path):
    return lambda layout: shutil.copytree(roots[FILES[layout]], tmp_path / layout)


def look(layout, root, *overrides):
    return check(load_config(f"configs/{layout}.yaml", [f"data.root={root}", *overrides]))


def findings(layout, root, *overrides):
    """Kind -> texts, without what StreetScenes always has."""
    found = {}
    for seen in look(layout, root, *overrides).values():
        for kind, text in seen.findings:
            if kind not in ALWAYS:
                found.setdefault(kind, []).append(text)
    return found


def first(root, pattern):
    return sorted(root.glob(pattern))[0]


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("layout", FILES)
def test_a_whole_set_is_usable(roots, layout, capsys):
    root = roots[FILES[layout]]
    assert findings(layout, root) == {}
    splits = look(layout, root)
    assert not report(splits)
    output = capsys.readouterr().out
    assert output.splitlines()[-1] == "usable"
    assert "number of images is not the official one: 2" in output
    config = load_config(f"configs/{layout}.yaml", [f"data.root={root}", f"data.index_dir={root.parent / 'index'}"])
    records = LAYOUTS[layout](config).read("train", "face")
    assert splits["train"].images == 6 and splits["val"].images == 2
    assert splits["train"].objects == sum(len(r.instances) for r in records)
    assert splits["train"].faces == sum(len(r.faces) for r in records) > 0


IMAGE = {
    "cityscapes": "leftImg8bit/train/*/*.png",
    "coco_instances": "train2017/*.jpg",
    "coco_keypoints": "train2017/*.jpg",
    "bdd100k": "images/10k/train/*.jpg",
}
ANNOTATIONS = {
    "cityscapes": "gtFine/train/*/*_polygons.json",
    "coco_instances": "annotations/instances_train2017.json",
    "coco_keypoints": "annotations/person_keypoints_train2017.json",
    "bdd100k": "jsons/ins_seg_train_cocofmt.json",
}


@pytest.mark.parametrize("layout", FILES)
def test_damaged_images(copy, layout, capsys):
    root = copy(layout)
    one, two, three = sorted(root.glob(IMAGE[layout]))[:3]
    cut(one)
    two.unlink()
    Image.new("RGB", (30, 20)).save(three)
    found = findings(layout, root)
    assert [text.startswith(f"{one}: ") for text in found[Kind.UNREADABLE_IMAGE]] == [True]
    assert found[Kind.MISSING_IMAGE][0] == str(two)
    assert all(f"{three}: 20 × 30" in text for text in found[Kind.ANNOTATED_SIZE])
    assert set(found) == {Kind.UNREADABLE_IMAGE, Kind.MISSING_IMAGE, Kind.ANNOTATED_SIZE}
    assert report(look(layout, root))
    assert "unusable: image is missing (1); image cannot be decoded (1)" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("layout", FILES)
def test_cut_and_missing_annotations(copy, layout):
    root = copy(layout)
    path = first(root, ANNOTATIONS[layout])
    cut(path)
    (text,) = set(findings(layout, root)[Kind.REFUSED])
    assert text.startswith(f"{path}: cannot be read as JSON")
    path.unlink()
    found = findings(layout, root)
    if layout == "cityscapes":
        assert found == {Kind.MISSING_ANNOTATION: [str(first(root, IMAGE[layout]))]}
    elif layout == "bdd100k":
        assert found == {}, "there are the bitmasks"
        shutil.rmtree(root / "labels")
        assert "no image is annotated" in findings(layout, root)[Kind.REFUSED][0]
    else:
        assert found[Kind.REFUSED][0].startswith(f"{path} does not exist")


@pytest.mark.parametrize("layout", FILES)
def test_no_images(copy, layout):
    root = copy(layout)
    for path in root.glob(IMAGE[layout]):
        path.unlink()
    found = findings(layout, root)
    assert Kind.NO_IMAGES in found and len(set(found[Kind.MISSING_IMAGE])) == 6


@pytest.mark.parametrize("layout", FILES)
def test_an_image_that_no_annotation_knows(copy, layout):
    root = copy(layout)
    path = first(root, IMAGE[layout])
    more = path.with_name(path.name.replace(path.name[:10], "zzzzzzzzzz"))
    shutil.copy(path, more)
    kinds = {"cityscapes": {Kind.MISSING_ANNOTATION}, "bdd100k": {Kind.MISSING_ANNOTATION, Kind.UNLISTED_IMAGE}}
    found = findings(layout, root)
    assert found == {kind: [str(more)] for kind in kinds.get(layout, {Kind.UNLISTED_IMAGE})}


@pytest.mark.parametrize("layout", FILES)
def test_face_boxes(copy, layout, capsys):
    root = copy(layout)
    path = first(root, "*boxes_train*.json")
    content = json.loads(path.read_text())
    name = next(n for n, entry in content.items() if (entry["boxes"] if "coco" in layout else entry))
    (content[name]["boxes"] if "coco" in layout else content[name])[0][:4] = [500, 10, 520, 20]
    path.write_text(json.dumps(content))
    (text,) = findings(layout, root)[Kind.REFUSED]
    assert "face box [500.0, 10.0, 520.0, 20.0]" in text
    path.write_text("[]")
    assert "not of the form" in findings(layout, root)[Kind.REFUSED][0]
    path.unlink()
    assert findings(layout, root) == {Kind.NO_FACES: [str(path)]}
    assert not report(look(layout, root))
    assert "warning: no face boxes" in capsys.readouterr().out


def test_cityscapes_polygons(copy):
    root = copy("cityscapes")
    one, two, three = sorted(root.glob("gtFine/train/*/*_polygons.json"))[:3]

    def beyond(content):
        content["objects"].append({"label": "car", "polygon": [[-7, 3], [9, 3], [9, 70.5]]})
        content["objects"].append({"label": "car", "polygon": [[5, 5], [9, 9]]})

    edit(one, beyond)
    place = len(json.loads(one.read_text())["objects"])
    edit(two, lambda content: content["objects"][-1].update(label="pedestrian"))
    edit(three, lambda content: content["objects"][-1].update(polygon=[[1, 1]]))
    found = findings("cityscapes", root)
    reach = f"{one}: object {place - 2} (car): x -7 to 9, y 3 to 70.5 in 64 × 128"
    assert found[Kind.OUTSIDE_POLYGON] == [reach]
    assert found[Kind.FEW_POINTS][0] == f"{one}: object {place - 1} (car): 2"
    assert len(found[Kind.REFUSED]) == 2
    assert "unknown label 'pedestrian'" in "".join(found[Kind.REFUSED])
    assert "of 1 points cannot be drawn" in "".join(found[Kind.REFUSED])


@pytest.mark.parametrize("layout", ["coco_instances", "bdd100k"])
def test_coco_annotations(copy, layout):
    root = copy(layout)
    path = first(root, ANNOTATIONS[layout])

    ids = []

    def damage(content):
        # In different images: of one whose record cannot be made, nothing else is known.
        one, two, three, four, *_ = {a["image_id"]: a for a in content["annotations"]}.values()
        ids.extend(a["id"] for a in (one, two, three, four))
        one["bbox"] = [100, 10, 60, 10]
        two |= {"bbox": [5, 5, 0, 4], "area": 0}
        three["segmentation"] = [[1, 1, 140, 1, 9, 9]]
        four["segmentation"] = {"size": [3, 4], "counts": [12]}

    edit(path, damage)
    found = findings(layout, root)
    assert [text.endswith("160, 20] in 64 × 128") for text in found[Kind.OUTSIDE_BOX]] == [True]
    assert len(found[Kind.NO_AREA]) == 1
    assert found[Kind.OUTSIDE_POLYGON] == [f"{path}: annotation {ids[2]}: x 1 to 140, y 1 to 9 in 64 × 128"]
    (text,) = found[Kind.REFUSED]
    assert text.startswith(f"{path}: annotation {ids[3]}: its mask is 3 × 4 pixels")
    edit(path, lambda content: content["annotations"][0].update(image_id=987654))
    assert "image 987654 is not listed" in findings(layout, root)[Kind.MISSING_IMAGE][0]
    edit(path, lambda content: content["annotations"][1].update(id=content["annotations"][2]["id"]))
    assert "is there twice" in findings(layout, root)[Kind.REFUSED][0]


def test_bdd100k_bitmasks(copy):
    root = copy("bdd100k")
    one, two, three = sorted((root / "labels/ins_seg/bitmasks/train").iterdir())[:3]
    pixels = np.array(Image.open(one))
    pixels[0, :2] = [(1, 0, 0, 77), (2, 0, 0, 77)]
    Image.fromarray(pixels).save(one)
    cut(two)
    three.unlink()
    found = findings("bdd100k", root)
    assert found[Kind.NUMBER_TWICE] == [f"{one}: 77"]
    assert found[Kind.REFUSED][0].startswith(f"{two}: bitmask cannot be decoded")
    assert found[Kind.MISSING_ANNOTATION] == [str(root / f"images/10k/train/{three.stem}.jpg")]


@pytest.mark.parametrize("source", ["json", "bitmasks"])
def test_bdd100k_faces_numbered_by_another_conversion(copy, source):
    """Image ids are places in a list: a list in another order puts faces where nobody is."""
    root = copy("bdd100k")
    converted = root / "jsons/ins_seg_train_cocofmt.json"
    last = json.loads(converted.read_text())["images"][-1]
    bitmask = root / "labels/ins_seg/bitmasks/train" / last["file_name"].replace(".jpg", ".png")
    Image.new("RGBA", (128, 64)).save(bitmask)
    if source == "bitmasks":
        shutil.rmtree(root / "jsons")
    else:
        kept = [a for a in json.loads(converted.read_text())["annotations"] if a["image_id"] != last["id"]]
        edit(converted, lambda content: content.update(annotations=kept))
    (root / "face_boxes_train.json").write_text(json.dumps({str(last["id"]): [[5, 5, 9, 9]]}))
    (text,) = findings("bdd100k", root)[Kind.STRAY_FACES]
    assert text.startswith(f"image id {last['id']}, ")


@pytest.mark.slow
def test_worker_processes_find_the_same(copy, monkeypatch):
    root = copy("cityscapes")
    cut(first(root, IMAGE["cityscapes"]))
    alone = look("cityscapes", root)
    monkeypatch.setattr(module, "FEW_JOBS", 0)
    assert look("cityscapes", root) == alone


def test_wrong_arguments(tmp_path):
    with pytest.raises(UserError, match=r"data\.root: folder .*nowhere does not exist"):
        look("cityscapes", tmp_path / "nowhere")
    with pytest.raises(UserError, match="unknown layout 'cityscape', did you mean"):
        look("cityscapes", tmp_path, "data.layout=cityscape")


def test_exit_codes(copy, monkeypatch, capsys):
    root = copy("coco_keypoints")

    def run(override):
        monkeypatch.setattr("sys.argv", ["check", "--config", "configs/coco_keypoints.yaml", override])
        with pytest.raises(SystemExit) as end:
            module.main()
        return end.value.code, capsys.readouterr()

    code, output = run(f"data.root={root}")
    assert (code, output.out.splitlines()[-1]) == (0, "usable")
    first(root, IMAGE["coco_keypoints"]).unlink()
    code, output = run(f"data.root={root}")
    assert (code, output.out.splitlines()[-1]) == (1, "unusable: image is missing (1)")
    code, output = run("data.rot=x")
    assert code == 2 and output.err.count("\n") == 1 and "did you mean 'root'" in output.err


def test_help_loads_no_heavy_library():
    code = "import sys, datamodules.check; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0
    command = [sys.executable, "-m", "datamodules.check", "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "exit codes" in done.stdout


def test_classes_that_differ_and_a_dataset_without_people(copy):
    root = copy("coco_instances")
    edit(root / "annotations/instances_val2017.json", lambda c: c["categories"][0].update(name="somebody"))
    (root / "annotations/person_keypoints_train2017.json").unlink()
    (root / "boxes_train2017.json").unlink()
    found = findings("coco_instances", root)
    first = json.loads((root / "annotations/instances_train2017.json").read_text())["categories"][0]["name"]
    assert found[Kind.CLASSES] == [", ".join(sorted([first, "somebody"]))]
    assert "person_keypoints_train2017.json does not exist" in found[Kind.NOBODY][0]
    assert set(found) == {Kind.CLASSES, Kind.NOBODY, Kind.NO_FACES}
    assert report(look("coco_instances", root))


def test_splits_without_objects_or_people(copy):
    root = copy("coco_instances")
    people = next(c["id"] for c in coco_people(root)["categories"] if c["name"] == "person")

    def without_people(content):
        content["annotations"] = [a for a in content["annotations"] if a["category_id"] != people]

    for file in ("instances_train2017", "person_keypoints_train2017"):
        edit(root / f"annotations/{file}.json", without_people)
    (root / "boxes_train2017.json").unlink()
    found = findings("coco_instances", root)
    assert found == {
        Kind.NOBODY: ["no training image has a person"],
        Kind.NO_FACES: [str(root / "boxes_train2017.json")],
    }
    edit(root / "annotations/instances_val2017.json", lambda content: content["annotations"].clear())
    found = findings("coco_instances", root)
    assert found[Kind.NO_OBJECTS] == ["val"] and Kind.NO_OBJECTS.unusable


def coco_people(root):
    return json.loads((root / "annotations/instances_train2017.json").read_text())


def test_an_annotated_file_that_is_no_picture(copy):
    root = copy("coco_instances")
    path = first(root, "train2017/*")
    edit(
        root / "annotations/instances_train2017.json",
        lambda content: next(i for i in content["images"] if i["file_name"] == path.name).update(file_name="a.heic"),
    )
    path.rename(path.with_name("a.heic"))
    (said,) = findings("coco_instances", root)[Kind.UNREADABLE_IMAGE]
    assert said.startswith(str(path.with_name("a.heic")))


@pytest.mark.parametrize(
    ("orientation", "size", "doubtful"),
    [(1, (64, 128), False), (3, (64, 128), True), (4, (64, 128), True), (6, (64, 128), False), (6, (64, 64), True)],
)
def test_exif_that_the_size_does_not_show(tmp_path, orientation, size, doubtful):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size[::-1]).save(tmp_path / "a.jpg", exif=exif)
    found = module.inspect_image(tmp_path / "a.jpg", None).findings
    expected = [(Kind.ORIENTATION, f"{tmp_path / 'a.jpg'}: orientation {orientation}")]
    assert found == (expected if doubtful else [])
