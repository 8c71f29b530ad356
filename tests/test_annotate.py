"""annotate.py end to end on small datasets, with a detector made here, against pycocotools and plain loops."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from torch import nn

from annotate import Progress, annotate, main, read_boxes
from configs import load_config
from datamodules.layouts import LAYOUTS
from errors import UserError

ROOT = Path(__file__).parent.parent
PATCH = 8


class Grid(nn.Module):
    """A face in every patch, the surer the brighter the patch. ``rounds`` makes it slow."""

    rounds: int

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        patches = image.double().mean(0).unfold(0, 8, 8).unfold(1, 8, 8)
        scores = patches.mean(dim=(2, 3)) / 255
        rows, columns = scores.size(0), scores.size(1)
        y = torch.arange(rows).repeat_interleave(columns).double() * 8
        x = torch.arange(columns).repeat(rows).double() * 8
        waste = torch.eye(200)
        for _ in range(self.rounds):
            waste = waste @ waste
        boxes = torch.stack([x, y, x + 8, y + 8], dim=1)
        return boxes, torch.ones(len(boxes)), scores.flatten(), waste


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, rounds in (("fast", 0), ("slow", 300)):
        torch.jit.script(Grid(rounds)).save(folder / f"{name}.jit")
    return folder


@pytest.fixture
def run(models, streetscenes, tmp_path):
    """Annotate drawn street scenes with the bright patches as faces."""

    def run(layout="coco_keypoints", name="faces.json", model="fast", workers=0, root=None, **more):
        overrides = {
            "data.root": root or streetscenes[layout.partition("_")[0]],
            "data.index_dir": tmp_path / "index",
            "faces.detector": f"torchscript:{models / model}.jit",
            "faces.score": 0.4,
        }
        overrides |= {key.replace("__", "."): value for key, value in more.items()}
        config = load_config(ROOT / f"configs/{layout}.yaml", [f"{k}={v}" for k, v in overrides.items()])
        annotate(config, output=tmp_path / name, workers=workers)
        return config, tmp_path / name

    return run


def slow_faces(image, masks):
    """The patches that are bright enough and overlap a mask, each with the mask that it overlaps most."""
    height, width = (side // PATCH * PATCH for side in image.shape[:2])
    faces = []
    for y in range(0, height, PATCH):
        for x in range(0, width, PATCH):
            score = image[y : y + PATCH, x : x + PATCH].mean() / 255
            if score >= 0.4:
                faces.append((x, y, score))
    pairs = []
    for x, y, score in faces:
        for person, mask in enumerate(masks):
            both = mask[y : y + PATCH, x : x + PATCH].sum()
            iou = both / (mask.sum() + PATCH**2 - both)
            if iou > 0.01:
                pairs.append((-iou, -score, person, x, y))
    chosen = {}
    for *_, person, x, y in sorted(pairs):
        if person not in chosen and (x, y) not in chosen.values():
            chosen[person] = (x, y)
    return len(faces), {person: [x, y, x + PATCH, y + PATCH] for person, (x, y) in chosen.items()}


def test_coco_layout(run, streetscenes, capsys):
    config, path = run()
    printed = capsys.readouterr().out
    assert printed.endswith(f"faces in {path}\n")
    coco = COCO(streetscenes["coco"] / "annotations" / "person_keypoints_train2017.json")
    content = json.loads(path.read_text())
    people = found = matched = 0
    for info in coco.imgs.values():
        labelled = [a for a in coco.imgToAnns[info["id"]] if any(a["keypoints"][2::3])]
        entry = content.pop(str(info["id"]), None)
        if not labelled:
            assert entry is None
            continue
        image = np.asarray(Image.open(streetscenes["coco"] / "train2017" / info["file_name"]).convert("RGB"))
        count, expected = slow_faces(image.astype(float), [coco.annToMask(a) for a in labelled])
        assert (entry is None) == (count == 0)
        if entry:
            assert dict(zip(entry["keypoint_indices"], entry["boxes"], strict=True)) == expected
        people, found, matched = people + len(labelled), found + count, matched + len(expected)
    assert not content and matched > 5
    share = f"{matched / people:.0%} of the people"
    assert f"{people} people\n{found} faces found, {matched} matched ({share})\n" in printed

    config.faces.file = str(path)
    records = LAYOUTS["coco_keypoints"](config).read("train", "face")
    assert sum(len(r.faces) for r in records) == matched


def test_cityscapes_layout(run):
    config, path = run("cityscapes")
    content = json.loads(path.read_text())
    boxes = [box for boxes in content.values() for box in boxes]
    assert boxes and all(len(box) == 5 and box[4] >= 0.4 for box in boxes)
    config.faces.file = str(path)
    module = LAYOUTS["cityscapes"](config)
    faces = {r.image_id: [face for _, face in r.faces] for r in module.read("train", "face")}
    assert {id_: [box[:4] for box in boxes] for id_, boxes in content.items() if boxes} == {
        id_: boxes for id_, boxes in faces.items() if boxes
    }


def test_detections_that_a_file_has(run, models, tmp_path, streetscenes):
    """All patches as a file, unmatched, give the same faces as the detector does."""
    _, expected = run("cityscapes")
    model = torch.jit.load(models / "fast.jit")
    detections = {}
    for path in sorted((streetscenes["cityscapes"] / "leftImg8bit" / "train").glob("*/*.png")):
        image = torch.from_numpy(np.array(Image.open(path).convert("RGB"))[..., ::-1].copy()).permute(2, 0, 1)
        boxes, _, scores, _ = model(image)
        # detectron2's image id, which is that of the authors' file for Cityscapes
        detections[path.name] = torch.cat([boxes, scores[:, None]], 1).tolist()
    (tmp_path / "detections.json").write_text(json.dumps(detections))
    _, path = run("cityscapes", "again.json", faces__detector=tmp_path / "detections.json")
    assert path.read_bytes() == expected.read_bytes()


def test_reading_both_layouts(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text(
        '{"7": {"boxes": [[1, 2, 3, 4]], "keypoint_indices": [0]}, "8": [[1, 2, 3, 4, 0.2], [5, 6, 7, 8, 0.9]]}'
    )
    boxes = read_boxes(path, 0.3, ["7", "9"])
    np.testing.assert_array_equal(boxes["7"], [[1, 2, 3, 4, 1]])
    np.testing.assert_array_equal(boxes["8"], np.array([[5, 6, 7, 8, 0.9]], np.float32))
    with pytest.raises(UserError, match=r"boxes\.json: none of its image ids is one of this split's, such as '9'"):
        read_boxes(path, 0.3, ["9"])
    twice = '{"7": [[1, 2, 3, 4]], "7_leftImg8bit.png": []}'
    for wrong in (twice, "[[1, 2, 3, 4]]", '{"7": [[1, 2, 3]]}', '{"7": {"box": []}}', '{"7": 3}'):
        path.write_text(wrong)
        with pytest.raises(UserError, match=r"boxes\.json: not of the form"):
            read_boxes(path, 0.3, ["7"])


def test_faces_from_keypoints(run, streetscenes):
    _, path = run(faces__detector="coco-keypoints")
    coco = COCO(streetscenes["coco"] / "annotations" / "person_keypoints_train2017.json")
    content = json.loads(path.read_text())
    for info in coco.imgs.values():
        labelled = [a for a in coco.imgToAnns[info["id"]] if any(a["keypoints"][2::3])]
        points = [np.array(a["keypoints"]).reshape(17, 3)[:5] for a in labelled]
        expected = [i for i, p in enumerate(points) if (p[:3, 2] == 2).any() and (p[:, 2] > 0).sum() >= 2]
        entry = content.get(str(info["id"]), {"boxes": [], "keypoint_indices": []})
        assert entry["keypoint_indices"] == expected
        for (x0, y0, x1, y1), i in zip(entry["boxes"], expected, strict=True):
            x, y, _ = points[i][points[i][:, 2] > 0].T
            assert x0 <= x.min() and x.max() <= x1 and y0 <= y.min() and y.max() <= y1
    assert content


def test_interrupted_and_started_again(run, tmp_path, monkeypatch, capsys):
    """The same bytes as in one go, though the last line of the progress was cut, and no image is looked at twice."""
    _, expected = run(name="expected.json")
    add = Progress.add

    def stop_at_the_third(self, faces):
        if len(self.done) == 2:
            raise KeyboardInterrupt
        add(self, faces)

    monkeypatch.setattr(Progress, "add", stop_at_the_third)
    with pytest.raises(SystemExit, match=r"interrupted; the same command goes on from .*faces\.json\.partial"):
        run()
    monkeypatch.undo()
    with (tmp_path / "faces.json.partial").open("a") as file:
        file.write('["cut')
    capsys.readouterr()
    _, path = run()
    left, images = map(int, re.search(r"(\d+) of (\d+) images left", capsys.readouterr().out).groups())
    assert left == images - 2
    assert path.read_bytes() == expected.read_bytes()
    assert not (tmp_path / "faces.json.partial").exists()


@pytest.mark.slow
def test_killed_and_started_again(run, models, streetscenes, tmp_path):
    """The real command, killed with its workers: the same bytes as in one go and one process."""
    _, expected = run(model="slow", name="expected.json")
    output, partial = tmp_path / "faces.json", tmp_path / "faces.json.partial"
    arguments = [
        *(sys.executable, ROOT / "annotate.py", "--config", ROOT / "configs/coco_keypoints.yaml"),
        f"output={output}",
        "workers=2",
        f"data.root={streetscenes['coco']}",
        f"data.index_dir={tmp_path / 'index'}",
        f"faces.detector=torchscript:{models / 'slow'}.jit",
        "faces.score=0.4",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (partial.exists() and partial.read_bytes().count(b"\n") > 2):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not output.exists()
    done = partial.read_bytes()
    again = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    left, images = map(int, re.search(r"going on with .*partial: (\d+) of (\d+) images left", again.stdout).groups())
    assert left == images - (done.count(b"\n") - 1)
    assert output.read_bytes() == expected.read_bytes()
    assert not partial.exists()


def test_progress_of_other_settings_is_not_mixed(run, tmp_path, monkeypatch):
    monkeypatch.setattr("annotate.write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.undo()
    before = (tmp_path / "faces.json.partial").read_bytes()
    assert before.count(b"\n") == 7
    for more in ({"faces__score": 0.5}, {"model": "slow"}):
        with pytest.raises(UserError, match=r"faces\.json\.partial was begun with other settings.*0\.4"):
            run(**more)
    assert (tmp_path / "faces.json.partial").read_bytes() == before
    run()
    assert not (tmp_path / "faces.json.partial").exists()


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_what_is_there_stays(run, tmp_path, capsys):
    (tmp_path / "faces.json").write_text("mine")
    run()
    assert "already there: " in capsys.readouterr().out
    assert (tmp_path / "faces.json").read_text() == "mine"


def test_an_unreadable_image_keeps_the_file_back(run, streetscenes, tmp_path, capsys):
    from shutil import copytree

    root = copytree(streetscenes["coco"], tmp_path / "coco")
    _, expected = run(root=root, name="expected.json")
    victim = sorted((root / "train2017").iterdir())[2]
    good = victim.read_bytes()
    victim.write_bytes(good[: len(good) // 2])
    with pytest.raises(UserError, match=r"faces\.json is not written: 1 of 6 images cannot be read"):
        run(root=root)
    assert str(victim) in capsys.readouterr().err
    assert not (tmp_path / "faces.json").exists()

    run(root=root, name="without.json", data__skip_bad_images="true")
    without = json.loads((tmp_path / "without.json").read_text())
    full = json.loads(expected.read_text())
    missing = full.keys() - without.keys()
    assert {f"{int(id_):012}" for id_ in missing} == {victim.stem} and without.items() < full.items()

    victim.write_bytes(good)
    run(root=root)
    assert "going on with" in capsys.readouterr().out
    assert (tmp_path / "faces.json").read_bytes() == expected.read_bytes()


@pytest.mark.parametrize(
    ("layout", "more", "message"),
    [
        ("cityscapes", {"faces__detector": "centrface"}, r"faces\.detector: unknown detector.*mean 'centerface'"),
        ("cityscapes", {"faces__detector": "coco-keypoint"}, r"unknown detector.*mean 'coco-keypoints'"),
        ("cityscapes", {"faces__detector": "coco-keypoints"}, "layout cityscapes has not$"),
        ("coco_instances", {"faces__detector": "coco-keypoints"}, "data.layout=coco_keypoints has them"),
        ("cityscapes", {"faces__detector": "nowhere.json"}, r"nowhere\.json does not exist"),
        ("cityscapes", {"name": "file/faces.json"}, r"cannot be written .*faces\.file=FILE"),
    ],
)
def test_mistakes_are_named(run, tmp_path, layout, more, message):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=message):
        run(layout, **more)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("split=test", "split: unknown split 'test'"),
        ("output=/", "output: / is a folder; give output=FILE.json"),
        ("workers=-1", "workers: -1 is no number of processes"),
        ("workers=many", "workers: Value 'many' of type 'str' could not be converted to Integer"),
        ("faces.detecter=x", "did you mean 'detector'"),
        ("output", "argument 'output' is not of the form key=value"),
    ],
)
def test_command_line_mistakes(argument, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["annotate.py", "--config", str(ROOT / "configs/cityscapes.yaml"), argument])
    with pytest.raises(SystemExit, match="2"):
        main()
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_photographs(coco_sample, run):
    """CenterFace on COCO: most people who show their face, at an owner with the face's keypoints in the box."""
    pytest.importorskip("onnxruntime")
    _, path = run(root=coco_sample, faces__detector="centerface", faces__score=0.3)
    coco = COCO(coco_sample / "annotations" / "person_keypoints_train2017.json")
    shown, centred = 0, 0
    content = json.loads(path.read_text())
    for info in coco.imgs.values():
        labelled = [a for a in coco.imgToAnns[info["id"]] if any(a["keypoints"][2::3])]
        entry = content.get(str(info["id"]), {"boxes": [], "keypoint_indices": []})
        boxes = dict(zip(entry["keypoint_indices"], entry["boxes"], strict=True))
        for i, annotation in enumerate(labelled):
            face = np.array(annotation["keypoints"]).reshape(17, 3)[:3]
            if (face[:, 2] == 2).any():
                shown += 1
                x, y = face[face[:, 2] == 2, :2].mean(0)
                x0, y0, x1, y1 = boxes.get(i, [0, 0, 0, 0])
                centred += x0 <= x <= x1 and y0 <= y <= y1
    assert shown == 43
    assert centred >= 35
