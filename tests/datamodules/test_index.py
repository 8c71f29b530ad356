"""The cached index of a dataset: the same records as a fresh look, rebuilt when and only when a file changed."""

import json
import multiprocessing
import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from configs import load_config
from datamodules import index
from datamodules.coco import CocoInstancesDataModule
from datamodules.index import Plan, read_index
from datamodules.layouts import LAYOUTS
from datamodules.record import Instance, Record
from errors import UserError

SIZE = (8, 8)
SMAPS = Path("/proc/self/smaps_rollup")


def make(folder, number, weight=0):
    """A record of its own for each number; ``weight`` bytes more of it."""
    mask = {"size": list(SIZE), "counts": b"0P2" + bytes(weight)}
    instances = [Instance(i, 1 + i, (0, 0, 1, 1), mask, number) for i in range(number % 3)]
    return Record(f"image {number}", folder / f"{number}.png", SIZE, instances)


def fail(*_):
    raise AssertionError("nothing has changed")


def has_instances(record):
    return bool(record.instances)


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    """In place of the package's own modules, which are part of an index's key and may be under work."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "coco.py").touch()
    monkeypatch.setattr(index, "__file__", str(folder / "index.py"))
    return folder


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(5):
        Image.new("RGB", SIZE).save(folder / f"{number}.png")
    return folder


def read(images, plan=None, count=5, weight=0, is_trainable=has_instances):
    plan = plan or (lambda: Plan(("a", "b"), make, [(images, n, weight) for n in range(count)]))
    return read_index(images.parent / "index", ("layout", "train", "none"), [images], plan, is_trainable)


@pytest.mark.parametrize("few", [500, 2], ids=["here", "in processes"])
def test_records_are_those_of_the_plan(images, monkeypatch, few):
    monkeypatch.setattr(index, "FEW", few)
    (images / "3.png").unlink()
    for records in (read(images), read(images, fail), pickle.loads(pickle.dumps(read(images, fail)))):
        assert [repr(r) for r in records] == [repr(make(images, n)) for n in range(5)]
        assert records.classes == ("a", "b")
        assert records.trainable.tolist() == [False, True, True, False, True]
        assert records.suspect.tolist() == [False, False, False, True, False]
        chosen = records.select(records.trainable).select(np.array([True, False, True]))
        assert [r.image_id for r in chosen] == ["image 1", "image 4"]
        assert chosen[-1].image_id == "image 4" and len(chosen) == 2
        with pytest.raises(IndexError):
            chosen[2]


def change_nothing(images):
    pass


def change_content(images):
    (images / "1.png").write_bytes(b"x")


def change_time(images):
    os.utime(images / "1.png", ns=(0, 0))


def remove(images):
    (images / "1.png").unlink()


def add(images):
    (images / "sub").mkdir()
    (images / "sub" / "9.png").touch()


def swap(images):
    (images / "1.png").rename(images / "x.png")
    (images / "2.png").rename(images / "1.png")
    (images / "x.png").rename(images / "2.png")
    os.utime(images / "1.png", ns=(5, 5))


@pytest.mark.parametrize("change", [change_nothing, change_content, change_time, remove, add, swap])
def test_a_changed_dataset_is_noticed(images, change):
    read(images)
    change(images)
    plan = Plan(("a",), make, [(images, 7, 0)])
    records = read(images, lambda: plan)
    assert len(records) == (5 if change is change_nothing else 1)
    assert len(list((images.parent / "index").iterdir())) == 1, "an index takes the place of the one before"


def test_a_changed_reader_is_noticed(images, package):
    read(images)
    (package / "coco.py").write_text("# another reader")
    assert len(read(images, count=2)) == 2


@pytest.mark.parametrize("left", [0, 5, 60, -1])
def test_a_damaged_index_is_built_anew(images, left):
    read(images)
    (path,) = (images.parent / "index").iterdir()
    path.write_bytes(path.read_bytes()[:left])
    assert [r.image_id for r in read(images)] == [f"image {n}" for n in range(5)]


def test_a_change_of_the_index_leaves_open_ones_alone(images):
    before = read(images)
    change_content(images)
    after = read(images, count=3)
    assert [r.image_id for r in before] == [f"image {n}" for n in range(5)]
    assert len(after) == 3


def build_and_report(images, start, results):
    start.wait()
    results.put([r.image_id for r in read(images, weight=10_000, count=300)])


def test_processes_that_start_at_once_do_not_harm_each_other(images):
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(3), context.Queue()
    processes = [context.Process(target=build_and_report, args=(images, start, results)) for _ in range(3)]
    for process in processes:
        process.start()
    for _ in processes:
        assert results.get(timeout=60) == [f"image {n}" for n in range(300)]
    for process in processes:
        process.join()
    assert len(list((images.parent / "index").iterdir())) == 1


def die(folder, number, weight):
    if number == 200:
        os._exit(9)
    return make(folder, number, weight)


def test_killed_while_building_the_next_start_builds_anew(images):
    plan = Plan(("a",), die, [(images, n, 1000) for n in range(300)])
    process = multiprocessing.get_context("fork").Process(target=read, args=(images, lambda: plan))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert not list((images.parent / "index").glob("*.index"))
    assert len(read(images)) == 5


def test_an_error_leaves_nothing_behind(images):
    with pytest.raises(UserError, match=r"1\.png: its image id image 1 is that of .*1\.png too"):
        read(images, lambda: Plan(("a",), make, [(images, n, 0) for n in (0, 1, 2, 1)]))
    assert list((images.parent / "index").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(images):
    (images.parent / "index").touch()
    with pytest.raises(UserError, match=r"data\.index_dir: .*index cannot be written"):
        read(images)


def datamodule(root, folder, **data):
    overrides = [f"data.root={root}", f"data.index_dir={folder}", *(f"data.{k}={v}" for k, v in data.items())]
    return LAYOUTS["coco_instances"](load_config("configs/coco_instances.yaml", ["data.num_workers=0", *overrides]))


def test_later_starts_do_not_go_through_the_annotations(streetscenes, tmp_path, monkeypatch):
    root = streetscenes["coco"]
    first = datamodule(root, tmp_path)
    first.setup("fit")
    monkeypatch.setattr(CocoInstancesDataModule, "plan", fail)
    monkeypatch.setattr(Record, "image_problem", fail)
    again = datamodule(root, tmp_path)
    again.setup("fit")
    assert again.classes == first.classes and len(again.classes) > 1
    for a, b in ((first.train, again.train), (first.val, again.val)):
        assert [repr(r) for r in a] == [repr(r) for r in b] and len(a)


def test_what_was_wrong_with_an_image_is_looked_at_again(streetscenes, tmp_path):
    """A permission that was given later leaves no trace in the file's size or time."""
    root = shutil.copytree(streetscenes["coco"], tmp_path / "data")
    image = min((root / "train2017").iterdir())
    content, status = image.read_bytes(), image.stat()
    image.write_bytes(b"x" * len(content))
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(UserError, match=image.name):
        datamodule(root, tmp_path / "index").setup("fit")
    image.write_bytes(content)
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    datamodule(root, tmp_path / "index").setup("fit")


def test_splits_have_the_same_classes(streetscenes, tmp_path):
    root = shutil.copytree(streetscenes["coco"], tmp_path / "data")
    path = root / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["categories"].append({"id": 999, "name": "gnu"})
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="classes of train and val differ in gnu"):
        datamodule(root, tmp_path / "index").setup("fit")


class Probe(Dataset):
    """Reads a record and says how much memory this process has to itself or its share of, in MiB."""

    def __init__(self, records):
        self.records = records

    def __len__(self):
        return len(self.records)

    def __getitem__(self, place):
        assert self.records[place].image_id == f"image {place}"
        if place < len(self) - 1:
            return 0
        return int(re.search(r"^Pss_Anon: +(\d+) kB", SMAPS.read_text(), re.MULTILINE)[1]) / 2**10


@pytest.mark.skipif(not SMAPS.exists(), reason="the system does not say")
def test_a_workers_memory_does_not_grow_with_the_dataset(images, monkeypatch):
    monkeypatch.setattr(index, "FEW", 5000)
    memory = {}
    for count in (500, 5000):
        records = read(images, weight=20_000, count=count)
        loader = DataLoader(Probe(records), 100, num_workers=1, persistent_workers=True)
        memory[count] = [max(batch.max().item() for batch in loader) for _ in range(2)]
        os.utime(images / "0.png", ns=(0, 0))  # so that the next index is another one
    everything = 4500 * 20_000 / 2**20
    assert memory[5000][1] - memory[500][1] < 0.2 * everything
    assert memory[5000][1] - memory[5000][0] < 0.2 * everything
