"""The real anonymize.py: what it writes, that it leaves nothing half, and that it fails closed."""

import csv
import hashlib
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import anonymize
from anonymization.engine import Anonymizer
from anonymization.options import Generators
from anonymize import DatasetJob, FolderJob, anonymize_dataset, anonymize_folder
from configs import load_config
from datamodules.layouts import LAYOUTS
from datamodules.manifest import JOURNAL, PARTIAL, Manifest
from datamodules.streetscenes import write
from errors import UserError

ROOT = Path(__file__).parent.parent


def config(root, *overrides, layout="cityscapes"):
    base = ["data.streetscenes=null", "data.num_workers=0", "data.batch_size=2", "data.geometry=[]"]
    own = [f"data.root={root}", f"data.layout={layout}", f"data.index_dir={Path(root).parent / 'index'}"]
    return load_config(ROOT / "configs/quickstart.yaml", [*base, *own, *overrides])


def make(root, output, condition="face/blur", layout="cityscapes", **job):
    job = DatasetJob(str(output), workers=job.pop("workers", 0), **job)
    return anonymize_dataset(config(root, f"condition={condition}", "seed=3", layout=layout), job)


def content(folder):
    """Every file of a folder, links unread: path -> bytes, or the link's target."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = path.readlink()
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def manifest(output):
    return json.loads((output / "manifest.json").read_text())


def failures(output):
    with (output / "failures.csv").open(newline="") as file:
        return {row["image"]: row["reason"] for row in csv.DictReader(file)}


def batches(root, *overrides, layout="cityscapes"):
    module = LAYOUTS[layout](config(root, "seed=3", *overrides, layout=layout))
    module.setup("fit")
    module.trainer = SimpleNamespace(training=True, world_size=1, global_rank=0, current_epoch=0)
    train = [module.on_after_batch_transfer(batch, 0) for batch in module.train_dataloader()]
    module.trainer.training = False
    return train, list(module.val_dataloader())


def same(a, b):
    if torch.is_tensor(a):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.fixture
def source(streetscenes, tmp_path):
    """A dataset of one's own to spoil."""
    return shutil.copytree(streetscenes["cityscapes"], tmp_path / "source")


@pytest.mark.parametrize("condition", ["face/blur", "body/mask_out", "body/blur"])
def test_training_on_the_copy_equals_training_on_the_fly(source, tmp_path, condition):
    before = content(source)
    assert make(source, tmp_path / "copy", condition)
    assert content(source) == before
    on_the_fly, original = batches(source, f"condition={condition}"), batches(source)
    on_copy = batches(tmp_path / "copy")
    for i in (0, 1):
        assert len(on_copy[i]) == len(on_the_fly[i])
        for a, b in zip(on_copy[i], on_the_fly[i], strict=True):
            assert same(a.images, b.images) and same(a.targets, b.targets)
    changed = [not same(a.images, b.images) for a, b in zip(on_copy[0], original[0], strict=True)]
    assert any(changed)


@pytest.mark.parametrize("layout", ["bdd100k", "coco_instances", "coco_keypoints"])
def test_a_jpeg_is_what_was_anonymized_but_for_its_compression(tmp_path, layout):
    root = write(layout.partition("_")[0], tmp_path / "source", train=4, val=1, size=(64, 128), workers=0)
    assert make(root, tmp_path / "copy", "body/mask_out", layout=layout)
    on_the_fly, _ = batches(root, "condition=body/mask_out", layout=layout)
    on_copy, _ = batches(tmp_path / "copy", layout=layout)
    for a, b in zip(on_copy, on_the_fly, strict=True):
        assert same(a.targets, b.targets)
        for image, expected in zip(a.images, b.images, strict=True):
            assert (image.int() - expected.int()).abs().float().mean() < 1.5


def test_what_is_in_a_copy(source, tmp_path):
    output = tmp_path / "copy"
    (source / "private.txt").write_text("stays")
    assert make(source, output, "body/mask_out")
    folder = source / "leftImg8bit/train"
    names = {p.relative_to(source).as_posix() for p in folder.rglob("*.png")}
    found = content(output)
    assert found.keys() == names | {"gtFine", "leftImg8bit/val", "streetscenes.json", "manifest.json"}
    assert found["gtFine"] == source / "gtFine" and found["leftImg8bit/val"] == source / "leftImg8bit/val"
    about = manifest(output)
    assert (about["condition"], about["seed"], about["source"]) == ("body/mask_out", 3, str(source))
    assert about["versions"]["torch"] == torch.__version__
    assert about["images"].keys() == names
    for name, entry in about["images"].items():
        digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for folder in (source, output)]
        assert [entry["source_sha256"], entry["sha256"]] == digests
    assert about["regions"] == sum(len(e["regions"]) for e in about["images"].values()) > 0
    assert about["dropped"] == sum(e["dropped"] for e in about["images"].values())


def test_annotations_may_be_copied(source, tmp_path):
    output = tmp_path / "copy"
    assert make(source, output, copy_annotations=True)
    assert not (output / "gtFine").is_symlink() and content(output / "gtFine") == content(source / "gtFine")
    with pytest.raises(UserError, match="says linked"):
        make(source, output)


def test_the_quickstart_trains_on_a_copy(source, tmp_path):
    assert make(source, tmp_path / "copy")
    drawing = "data.streetscenes={train: 6, val: 3, size: [64, 128], seed: 0}"
    module = LAYOUTS["cityscapes"](config(tmp_path / "copy", drawing))
    module.prepare_data()
    module.setup("fit")
    assert len(module.train) and len(module.val) == 3


def test_the_number_of_workers_changes_nothing(source, tmp_path):
    for workers in (0, 2):
        assert make(source, tmp_path / str(workers), "body/blur", workers=workers)
    assert content(tmp_path / "0") == content(tmp_path / "2")


def spoil_truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil_empty(path):
    path.write_bytes(b"")


def spoil_size(path):
    Image.new("RGB", (30, 20)).save(path)


def spoil_missing(path):
    path.unlink()
    path.symlink_to("nowhere")


SPOILED = {
    spoil_truncated: "cannot be decoded",
    spoil_empty: "cannot be decoded",
    spoil_size: "its annotation says 64 × 128",
    spoil_missing: "missing",
}


@pytest.mark.parametrize("spoil", SPOILED)
def test_a_bad_image_is_listed_and_not_written(source, tmp_path, spoil):
    output = tmp_path / "copy"
    images = sorted((source / "leftImg8bit/train").rglob("*.png"))
    name = images[2].relative_to(source).as_posix()
    spoil(images[2])
    assert not make(source, output)
    assert list(failures(output)) == [name] and SPOILED[spoil] in failures(output)[name]
    assert manifest(output)["images"].keys() == {p.relative_to(source).as_posix() for p in images} - {name}
    assert manifest(output)["failures"] == 1
    assert not (output / name).exists() and not (output / PARTIAL).exists()
    # mended, the same command writes the one that is missing, and nothing else
    kept = {p: p.stat().st_mtime_ns for p in output.rglob("*.png") if "train" in p.parts}
    images[2].unlink()
    shutil.copy(images[0], images[2])
    assert make(source, output)
    assert (output / name).exists() and not (output / "failures.csv").exists()
    assert {p: p.stat().st_mtime_ns for p in kept} == kept


def test_strict_stops_at_the_first(source, tmp_path, capsys):
    images = sorted((source / "leftImg8bit/train").rglob("*.png"))
    spoil_empty(images[1])
    spoil_empty(images[3])
    assert not make(source, tmp_path / "copy", strict=True)
    assert list(failures(tmp_path / "copy")) == [images[1].relative_to(source).as_posix()]
    assert not (tmp_path / "copy/manifest.json").exists()
    assert "stopped at" in capsys.readouterr().err


def test_an_image_that_fails_in_any_way_is_not_written(source, tmp_path, monkeypatch):
    monkeypatch.setattr(Anonymizer, "__call__", lambda *_: 1 / 0)
    assert not make(source, tmp_path / "copy")
    people = {name for name, reason in failures(tmp_path / "copy").items() if "ZeroDivisionError" in reason}
    assert people and not any((tmp_path / "copy" / name).exists() for name in people)


def test_an_image_without_annotation_is_listed(streetscenes, tmp_path):
    source = shutil.copytree(streetscenes["coco"], tmp_path / "source")
    stray = source / "train2017/stray.jpg"
    shutil.copy(next(source.glob("train2017/*.jpg")), stray)
    assert not make(source, tmp_path / "copy", layout="coco_instances")
    assert failures(tmp_path / "copy") == {"train2017/stray.jpg": "no annotation is about this image"}
    assert not (tmp_path / "copy/train2017/stray.jpg").exists()


def test_faces_of_an_image_that_is_not_there_are_listed(source, tmp_path):
    path = source / "face_boxes_train.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"berlin_0": [[1, 1, 9, 9]], "berlin_1": []}))
    assert not make(source, tmp_path / "copy")
    assert failures(tmp_path / "copy") == {path.name: "has faces in 1 images that are not among this split's"}


def test_a_face_outside_its_image_fails(source, tmp_path):
    path = source / "face_boxes_train.json"
    boxes = json.loads(path.read_text())
    id_ = next(id_ for id_ in boxes if boxes[id_])
    boxes[id_].append([500, 10, 520, 30])
    path.write_text(json.dumps(boxes))
    assert not make(source, tmp_path / "copy")
    ((name, reason),) = failures(tmp_path / "copy").items()
    assert id_ in name and "face box [500.0" in reason


@pytest.mark.parametrize("entry", [{"file_name": "../val2017/{}"}, {"file_name": "/etc/hosts"}, {"id": 10**6}])
def test_annotations_that_lead_elsewhere_are_refused(streetscenes, tmp_path, entry):
    source = shutil.copytree(streetscenes["coco"], tmp_path / "source")
    for task in ("instances", "person_keypoints"):
        path = source / f"annotations/{task}_train2017.json"
        annotations = json.loads(path.read_text())
        first = annotations["images"][0]
        annotations["images"].append(
            first | {"id": 10**6} | {k: v.format(first["file_name"]) for k, v in entry.items() if k != "id"}
        )
        path.write_text(json.dumps(annotations))
    with pytest.raises(UserError, match=r"is none in|is annotated as two images"):
        make(source, tmp_path / "copy", "body/blur", layout="coco_instances")
    assert not (tmp_path / "copy").exists()


def test_a_copy_is_not_mixed_with_anything(source, tmp_path, monkeypatch):
    output = tmp_path / "copy"
    assert make(source, output)
    with pytest.raises(UserError, match="says condition face/blur, this is body/blur"):
        make(source, output, "body/blur")
    with pytest.raises(UserError, match="says source"):
        make(shutil.copytree(source, tmp_path / "other"), output)
    monkeypatch.setattr(torch, "__version__", "9")
    with pytest.raises(UserError, match="says versions"):
        make(source, output)
    with pytest.raises(UserError, match="holds something else"):
        make(source, tmp_path / "index")


def test_a_copy_of_former_annotations_is_not_gone_on_with(source, tmp_path):
    """Who was forgotten, and is annotated now, would stay in sight in what is there already."""
    assert make(source, tmp_path / "copy", "body/mask_out")
    path = next(source.glob("gtFine/train/*/*_polygons.json"))
    polygons = json.loads(path.read_text())
    polygons["objects"].append({"label": "person", "polygon": [[5, 5], [45, 5], [45, 45], [5, 45]]})
    path.write_text(json.dumps(polygons))
    with pytest.raises(UserError, match=r"says annotations of gtFine/train [0-9a-f]{16}, this is [0-9a-f]{16}; name"):
        make(source, tmp_path / "copy", "body/mask_out")


def test_an_original_that_was_changed_is_anonymized_again(source, tmp_path):
    assert make(source, tmp_path / "copy")
    path, other = sorted((source / "leftImg8bit/train").rglob("*.png"))[:2]
    kept = tmp_path / "copy" / other.relative_to(source)
    before = kept.stat().st_mtime_ns
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    assert make(source, tmp_path / "copy")
    assert make(source, tmp_path / "new")
    assert content(tmp_path / "copy/leftImg8bit") == content(tmp_path / "new/leftImg8bit")
    assert kept.stat().st_mtime_ns == before


@pytest.mark.parametrize("place", ["", "leftImg8bit/train", "new", "..", "link/new"])
def test_source_and_output_are_apart(source, tmp_path, place):
    (tmp_path / "link").symlink_to(source)
    output = tmp_path / place if "link" in place else source / place
    before = content(source)
    with pytest.raises(UserError, match="overlaps with the source"):
        make(source, output)
    assert content(source) == before


def test_a_link_in_the_output_is_not_written_through(source, tmp_path):
    output = tmp_path / "copy"
    assert make(source, output)
    city = next((output / "leftImg8bit/train").iterdir())
    shutil.rmtree(city)
    city.symlink_to(source / "leftImg8bit/train" / city.name)
    before = content(source)
    with pytest.raises(UserError, match="is a link out of"):
        make(source, output)
    assert content(source) == before


def test_a_file_that_was_changed_is_made_again(source, tmp_path):
    output = tmp_path / "copy"
    assert make(source, output)
    before = content(output)
    image, other = sorted((output / "leftImg8bit/train").rglob("*.png"))[:2]
    image.write_bytes(b"half an im")
    other.unlink()
    assert make(source, output)
    assert content(output) == before


def test_a_journal_that_was_cut_off(source, tmp_path):
    output = tmp_path / "copy"
    assert make(source, output)
    before, about = content(output), manifest(output)
    # as a killed run leaves it: some images, a line cut off, another run's line behind it, a file half written
    images = list(about.pop("images").items())
    for key in ("regions", "dropped", "failures"):
        about.pop(key)
    (output / "manifest.json").unlink()
    lines = [json.dumps(about), *(json.dumps({"name": n, **e}) for n, e in images)]
    (output / JOURNAL).write_text("\n".join([*lines[:3], lines[3][:40], lines[4]]))
    (output / PARTIAL).mkdir()
    (output / PARTIAL / "123").write_bytes(b"half")
    kept = {name: (output / name).stat().st_mtime_ns for name in (images[0][0], images[1][0], images[3][0])}
    assert make(source, output)
    assert content(output) == before
    assert {name: (output / name).stat().st_mtime_ns for name in kept} == kept


def command(source, output, *more):
    arguments = [f"data.root={source}", "data.streetscenes=null", f"data.index_dir={source.parent / 'index'}", "seed=3"]
    program = [sys.executable, "anonymize.py", "--config", "configs/quickstart.yaml"]
    return [*program, *arguments, f"output={output}", "condition=body/blur", *more]


def call(*arguments, **options):
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120, **options)


def written(output):
    return [path for path in output.rglob("*.png") if "train" in path.parts]


def killed(source, output, delay):
    """Start a run and kill it some time after it has begun to write; say whether it was still at work."""
    before = len(written(output))
    process = subprocess.Popen(command(source, output, "workers=1"), cwd=ROOT, stdout=subprocess.DEVNULL)
    while process.poll() is None and len(written(output)) == before:
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    time.sleep(0.2)  # the worker ends on its own
    return process.wait() == -signal.SIGKILL


def check_killed_runs(tmp_path, images, kills):
    source = write("cityscapes", tmp_path / "source", train=images, val=1, size=(128, 256), workers=0)
    whole, output = tmp_path / "whole", tmp_path / "copy"
    assert make(source, whole, "body/blur")
    rng, stamps, count = random.Random(0), {}, 0
    for _ in range(kills):
        count += killed(source, output, rng.uniform(0, 0.2))
        assert {path: path.stat().st_mtime_ns for path in stamps} == stamps  # nothing was done again
        for path in written(output):
            assert path.read_bytes() == (whole / path.relative_to(output)).read_bytes()  # nothing is half there
            stamps[path] = path.stat().st_mtime_ns
    assert count and stamps
    assert make(source, output, "body/blur")
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert content(output) == content(whole)


def test_killed_and_started_again(tmp_path):
    check_killed_runs(tmp_path, images=60, kills=2)


@pytest.mark.slow
def test_killed_and_started_again_many_times(tmp_path):
    check_killed_runs(tmp_path, images=400, kills=12)


def test_a_full_disk_is_one_line_and_nothing_half(source, tmp_path):
    output = tmp_path / "copy"
    size = min(path.stat().st_size for path in source.rglob("*.png")) // 2

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    make(source, tmp_path / "other", "body/blur")  # now the index is there
    process = call(*command(source, output, "workers=0"), preexec_fn=limit)
    assert process.returncode == 2
    assert process.stderr == f"error: output: {output} cannot be written: File too large\n"
    assert not written(output) and [path.name for path in (output / PARTIAL).iterdir()] == ["lock"]
    assert make(source, output, "body/blur")


def test_two_runs_do_not_write_one_copy(source, tmp_path):
    output = tmp_path / "copy"
    with Manifest(output, {}).claimed(), pytest.raises(UserError, match="another process is writing"):
        make(source, output)


@pytest.fixture
def main(source, tmp_path, monkeypatch, capsys):
    """The command on a dataset: arguments -> exit code, standard output, standard error."""

    def run(*arguments):
        base = [f"data.root={source}", "data.streetscenes=null", f"data.index_dir={tmp_path / 'index'}", "workers=0"]
        script = ["anonymize.py", "--config", str(ROOT / "configs/quickstart.yaml"), *base, *arguments]
        monkeypatch.setattr(sys, "argv", script)
        with pytest.raises(SystemExit) as end:
            anonymize.main()
        return end.value.code, *capsys.readouterr()

    monkeypatch.chdir(tmp_path)
    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["condition=face/blur"], "output: is missing"),
        (["output=x", "condition=original"], "original anonymizes nothing"),
        (["output=x", "condition=face/blurr"], "did you mean 'face/blur'?"),
        (["ouput=x"], "unknown key 'ouput', did you mean 'output'?"),
        (["output=x", "--data.rot=y"], "did you mean 'root'?"),
        (["output=x", "condition=face/blur", "workers=-1"], "workers: -1"),
        (["output=x", "condition=face/blur", "workers=two"], "workers=two"),
        (["output=x", "condition=face/blur", "split=trian"], "did you mean 'train'?"),
        (["output=x", "condition=face/blur", "device=abacus"], "device: 'abacus' cannot be used"),
        (["output=x", "condition=face/blur", "data.layout=citiscapes"], "did you mean 'cityscapes'?"),
        (["output=x", "condition=face/blur", "boxes=b.json"], "boxes: is for a folder"),
        (["output=x", "condition=body/realistic", "generators.body=null"], "generators.body: is missing"),
        (["output=x", "condition=body/realistic", "generators.body=none.safetensors"], "none.safetensors"),
        (["output=x", "condition=body/blur", "generators.bodi=x"], "did you mean 'body'?"),
        (["output=x", "condition=face/blur", "faces.detector=nobody", "audit=true"], "unknown detector 'nobody'"),
        (["output=/dev/null/x", "condition=face/blur"], "/dev/null/x cannot be written"),
    ],
)
def test_mistakes_are_one_line(main, tmp_path, arguments, message):
    code, _, error = main(*arguments)
    assert code == 2 and message in error and error.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_the_command_says_what_became_of_the_images(main, source):
    image = next((source / "leftImg8bit/train").rglob("*.png"))
    image.write_bytes(b"")
    code, printed, error = main("condition=body/blur", "--output=copy")
    *_, line, listed, link = printed.splitlines()
    assert code == 3 and error == ""
    assert line.startswith("5 images in copy: ") and "people left as they are" in line
    assert (
        listed.startswith("1 images failed")
        and "where nothing is anonymized: gtFine, streetscenes.json, leftImg8bit/val" in link
    )
    code, _, error = main("condition=body/blur", "output=copy", "--strict")
    assert code == 3 and error.startswith("stopped at leftImg8bit/train/")
    image.unlink()
    shutil.copy(next((source / "leftImg8bit/train").rglob("*.png")), image)
    assert main("condition=body/blur", "output=copy")[0] == 0


def pictures(folder):
    """Pictures of one seen from two sides, and a file that is none."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    (folder / "deep").mkdir()
    picture = Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "secret"
    picture.save(folder / "a.png")
    picture.save(folder / "deep/b.jpg", exif=exif, quality=95)
    picture.save(folder / "c.webp", lossless=True)
    return folder


def test_a_folder_with_ones_own_boxes(tmp_path):
    root, boxes = pictures(tmp_path / "in"), tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"a.png": [[10, 10, 30, 40]], "deep/b.jpg": [[5, 20, 25, 50]], "c.webp": []}))
    before = content(root)
    job = FolderJob(str(tmp_path / "out"), workers=0, input=str(root), condition="face/mask_out", boxes=str(boxes))
    assert anonymize_folder(job)
    assert content(root) == before and content(tmp_path / "out").keys() == {*before, "manifest.json"}
    grey = np.zeros((60, 80), bool)
    grey[10:40, 10:30] = True
    a, original = (np.asarray(Image.open(folder / "a.png")).astype(int) for folder in (tmp_path / "out", root))
    np.testing.assert_array_equal(a[~grey], original[~grey])
    assert set(np.unique(a[grey])) <= {127, 128}
    with Image.open(tmp_path / "out/deep/b.jpg") as file:
        assert file.size == (60, 80) and not file.getexif()  # upright
        assert np.abs(np.asarray(file)[22:48, 7:23].astype(int) - 127).max() < 12
    with Image.open(tmp_path / "out/c.webp") as file:
        np.testing.assert_array_equal(file.convert("RGB"), Image.open(root / "c.webp").convert("RGB"))


@pytest.mark.parametrize("name", ["manifest.json", "manifest.1-of-2.jsonl", "failures.csv", ".partial/a.png"])
def test_a_name_that_a_copy_keeps_for_itself_is_refused(tmp_path, name):
    (tmp_path / "in" / ".partial").mkdir(parents=True)
    (tmp_path / "in" / name).write_bytes(b"mine")
    (tmp_path / "boxes.json").write_text("{}")
    job = FolderJob(str(tmp_path / "out"), workers=0, input=str(tmp_path / "in"), condition="face/blur")
    job.boxes = str(tmp_path / "boxes.json")
    with pytest.raises(UserError, match=f"{name}: has a name that a copy keeps for itself"):
        anonymize_folder(job)
    assert not (tmp_path / "out").exists()


def test_a_folder_fails_closed(tmp_path):
    root, boxes = pictures(tmp_path / "in"), tmp_path / "boxes.json"
    (root / "notes.txt").write_text("no picture")
    boxes.write_text(json.dumps({"a.png": [[10, 10, 30, 40]], "c.webp": [[100, 0, 120, 9]], "notes.txt": []}))
    job = FolderJob(str(tmp_path / "out"), workers=0, input=str(root), condition="face/blur", boxes=str(boxes))
    assert not anonymize_folder(job)
    assert content(tmp_path / "out").keys() == {"a.png", "failures.csv", "manifest.json"}
    reasons = failures(tmp_path / "out")
    assert reasons.keys() == {"c.webp", "deep/b.jpg", "notes.txt"}
    assert "has no entry for 'deep/b.jpg'" in reasons["deep/b.jpg"] and "face box" in reasons["c.webp"]


def test_a_folder_with_ones_own_masks(tmp_path):
    root, masks = pictures(tmp_path / "in"), tmp_path / "masks"
    (masks / "deep").mkdir(parents=True)
    numbers = np.zeros((60, 80), np.uint8)
    numbers[10:50, 10:25], numbers[20:55, 50:70] = 1, 2
    for name, mask in (("a", numbers), ("c", numbers * 0), ("deep/b", np.rot90(numbers, -1))):
        Image.fromarray(np.ascontiguousarray(mask)).save(masks / f"{name}.png")
    job = FolderJob(str(tmp_path / "out"), workers=0, input=str(root), condition="body/mask_out", masks=str(masks))
    assert anonymize_folder(job)
    about = manifest(tmp_path / "out")["images"]
    assert [len(about[name]["regions"]) for name in ("a.png", "c.webp", "deep/b.jpg")] == [2, 0, 2]
    a = np.asarray(Image.open(tmp_path / "out/a.png"))
    assert set(np.unique(a[numbers > 0])) <= {127, 128}
    Image.fromarray(numbers).save(masks / "c.png")
    with pytest.raises(UserError, match="says masks_sha256"):
        anonymize_folder(job)


def test_a_mask_is_of_one_picture(tmp_path):
    root, masks = pictures(tmp_path / "in"), tmp_path / "masks"
    (masks / "deep").mkdir(parents=True)
    Image.open(root / "a.png").save(root / "a.bmp")
    for name, size in (("a", (80, 60)), ("c", (80, 60)), ("deep/b", (60, 80))):
        Image.new("L", size).save(masks / f"{name}.png")
    job = FolderJob(str(tmp_path / "out"), workers=0, input=str(root), condition="body/mask_out", masks=str(masks))
    assert not anonymize_folder(job)
    assert manifest(tmp_path / "out")["images"].keys() == {"c.webp", "deep/b.jpg"}
    reasons = failures(tmp_path / "out")
    assert reasons.keys() == {"a.bmp", "a.png"}
    assert all("would be the mask of all pictures that are named a; rename them" in why for why in reasons.values())


def test_what_is_transparent_stays_hidden(tmp_path):
    root, boxes = pictures(tmp_path / "in"), tmp_path / "boxes.json"
    pixels = np.asarray(Image.open(root / "a.png").convert("RGBA")).copy()
    pixels[10:40, 10:30, 3] = 0
    Image.fromarray(pixels).save(root / "a.png")
    boxes.write_text(json.dumps({"a.png": [], "deep/b.jpg": [], "c.webp": []}))
    job = FolderJob(str(tmp_path / "out"), workers=0, input=str(root), condition="face/blur", boxes=str(boxes))
    assert anonymize_folder(job)
    with Image.open(tmp_path / "out/a.png") as file:
        a = np.asarray(file)
    assert a.shape == (60, 80, 3) and not a[10:40, 10:30].any()
    np.testing.assert_array_equal(a[40:], pixels[40:, :, :3])


class Drawing(torch.nn.Module):
    """A generator of plain colours: a person's own, by its seed."""

    def __init__(self, level: float):
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(level))

    def forward(self, images, masks, bodies, keypoints, seeds):
        shades = torch.stack([seeds % 7, seeds % 11, seeds % 13], dim=1) / 26.0
        return (self.level + shades)[:, :, None, None] * torch.ones_like(images)


@pytest.fixture
def generators(tmp_path):
    """Two files of a generator that anyone may have made: the people of one are darker."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch would rather see torch.export
        for name, level in (("dark", -0.9), ("bright", 0.3)):
            torch.jit.script(Drawing(level)).save(tmp_path / f"{name}.pt")
    return {name: f"torchscript:{tmp_path / name}.pt" for name in ("dark", "bright")}


def make_realistic(source, output, generator, *overrides, **job):
    own = config(source, "condition=body/realistic", "seed=3", f"generators.body={generator}", *overrides)
    return anonymize_dataset(own, DatasetJob(str(output), workers=job.pop("workers", 0), **job))


def test_people_are_drawn_alike_in_training_and_in_any_copy(source, tmp_path, generators):
    """Whatever the number of processes and of images at once, but for rounding."""
    dark = generators["dark"]
    assert make_realistic(source, tmp_path / "copy", dark, workers=2)
    about = manifest(tmp_path / "copy")
    assert about["generators"]["body"].startswith("torchscript:dark.pt@") and about["regions"] > 5
    on_the_fly, _ = batches(source, "condition=body/realistic", f"generators.body={dark}")
    original, _ = batches(source)
    on_copy, _ = batches(tmp_path / "copy")
    changed = 0
    for a, b, c in zip(on_copy, on_the_fly, original, strict=True):
        for copied, drawn, image in zip(a.images, b.images, c.images, strict=True):
            assert (copied.int() - drawn.int()).abs().max() <= 1
            changed += int((copied != image).any(0).sum())
    assert changed > 100


def test_a_copy_is_not_gone_on_with_by_another_generator(source, tmp_path, generators):
    output = tmp_path / "copy"
    assert make_realistic(source, output, generators["dark"])
    with pytest.raises(UserError, match=r"says generators of body torchscript:dark\.pt@.*this is .*bright\.pt@"):
        make_realistic(source, output, generators["bright"])
    # the same name is not the same generator
    shutil.copy(tmp_path / "bright.pt", tmp_path / "dark.pt")
    with pytest.raises(UserError, match=r"says generators of body torchscript:dark\.pt@.*this is .*dark\.pt@"):
        make_realistic(source, output, generators["dark"])


def test_an_image_that_fails_takes_none_of_its_group_with_it(source, tmp_path, generators, monkeypatch):
    whole, output = tmp_path / "whole", tmp_path / "copy"
    assert make_realistic(source, whole, generators["dark"])
    images = sorted((source / "leftImg8bit/train").rglob("*.png"))
    spoil_truncated(images[1])
    calls, anonymize_people = [], Anonymizer.__call__

    def counted(self, batch, regions):
        calls.append(len(batch))
        return anonymize_people(self, batch, regions)

    monkeypatch.setattr(Anonymizer, "__call__", counted)
    assert not make_realistic(source, output, generators["dark"])
    assert list(failures(output)) == [images[1].relative_to(source).as_posix()]
    assert set(calls) == {1}  # each by itself
    names = [path.relative_to(source) for path in images if path != images[1]]
    for name in names:
        pair = [np.asarray(Image.open(folder / name)).astype(int) for folder in (whole, output)]
        assert np.abs(pair[0] - pair[1]).max() <= 1
    calls.clear()
    shutil.copy(whole / images[1].relative_to(source), images[1])
    for name in names:
        (output / name).unlink()
    assert make_realistic(source, output, generators["dark"])
    assert max(calls) > 1


def test_a_folder_whose_faces_are_drawn(tmp_path, generators):
    root, boxes = pictures(tmp_path / "in"), tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"a.png": [[10, 10, 30, 40]], "deep/b.jpg": [[5, 20, 25, 50]], "c.webp": []}))
    named = Generators(face=generators["dark"])
    job = FolderJob(
        str(tmp_path / "out"),
        workers=0,
        input=str(root),
        condition="face/realistic",
        boxes=str(boxes),
        generators=named,
    )
    assert anonymize_folder(job)
    assert manifest(tmp_path / "out")["generators"].keys() == {"face"}
    a, original = (np.asarray(Image.open(folder / "a.png")).astype(int) for folder in (tmp_path / "out", root))
    face = a[14:36, 14:26].reshape(-1, 3)
    assert len(np.unique(face, axis=0)) == 1 and (face < 128).all()
    outside = np.ones((60, 80), bool)
    outside[10:40, 10:30] = False
    np.testing.assert_array_equal(a[outside], original[outside])


def test_a_folder_with_detected_faces(tmp_path, coco_sample):
    pytest.importorskip("onnxruntime")
    root = tmp_path / "in"
    root.mkdir()
    for path in sorted(coco_sample.glob("train2017/*.jpg"))[:3]:
        shutil.copy(path, root)
    job = FolderJob(str(tmp_path / "out"), workers=0, input=str(root), condition="face/blur", audit=True)
    assert anonymize_folder(job)
    about = manifest(tmp_path / "out")
    assert about["regions"] > 0 and about["faces"] == {"detector": "centerface", "score": 0.3}
    audited = json.loads((tmp_path / "out/audit.json").read_text())
    assert audited["before"] == {"inside": about["regions"], "elsewhere": 0}


def test_what_a_folder_job_refuses(tmp_path):
    root = pictures(tmp_path / "in")
    for job, message in (
        ({"condition": "body/blur"}, "masks: is missing"),
        ({"condition": "face/blur", "masks": "m"}, "masks: face/blur takes boxes= instead"),
        ({"condition": "face/blur", "input": str(tmp_path / "none")}, "does not exist"),
        ({"condition": "face/blur", "boxes": "none.json"}, "none.json does not exist"),
        ({"condition": "original"}, "anonymizes nothing"),
        ({"condition": "face/realistic"}, r"generators\.face: is missing; face/realistic needs one"),
        ({"condition": "face/realistic", "generators": Generators(face="diffuser:x")}, "did you mean 'diffusers'"),
    ):
        with pytest.raises(UserError, match=message):
            anonymize_folder(FolderJob(**{"output": str(tmp_path / "out"), "input": str(root), "workers": 0} | job))
    assert not (tmp_path / "out").exists()
