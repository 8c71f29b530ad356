"""Writing a set once, whole, and the same with any number of workers."""

import subprocess
import sys
from pathlib import Path

import pytest

from datamodules.streetscenes import write, writing
from datamodules.streetscenes.__main__ import main
from errors import UserError

SMALL = {"train": 3, "val": 1, "size": (32, 64)}


def contents(root):
    return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("layout", writing.LAYOUTS)
def test_workers_do_not_change_the_set(layout, tmp_path):
    alone = write(layout, tmp_path / "alone", **SMALL, workers=0)
    together = write(layout, tmp_path / "together", **SMALL, workers=2)
    assert contents(alone) == contents(together)


def test_a_complete_set_is_not_drawn_again(tmp_path, monkeypatch):
    root = write("coco", tmp_path / "set", **SMALL, workers=0)
    before = contents(root)

    def refuse(*_):
        raise AssertionError("drawn again")

    monkeypatch.setattr(writing, "_draw_one", refuse)
    assert write("coco", str(root), **SMALL) == root
    assert contents(root) == before


@pytest.mark.parametrize(
    ("other", "named"),
    [({"val": 2}, "val is 1, not 2"), ({"seed": 5}, "seed is 0, not 5"), ({"size": (32, 96)}, r"size is \[32, 64\]")],
)
def test_another_set_is_refused(tmp_path, other, named):
    write("cityscapes", tmp_path / "set", **SMALL, workers=0)
    with pytest.raises(ValueError, match=named):
        write("cityscapes", tmp_path / "set", **(SMALL | other))


def test_foreign_folders_are_refused_and_empty_ones_filled(tmp_path):
    foreign, empty = tmp_path / "foreign", tmp_path / "empty"
    foreign.mkdir()
    empty.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="foreign"):
        write("coco", foreign, **SMALL)
    assert contents(foreign) == {Path("thesis.txt"): b"mine"}
    assert (write("coco", empty, **SMALL, workers=0) / "streetscenes.json").is_file()


def test_an_interrupted_run_leaves_nothing_and_the_next_finishes(tmp_path, monkeypatch):
    draw = writing._draw_one

    def interrupted(layout, root, scene, job):
        if job == ("train", 2):
            raise KeyboardInterrupt
        return draw(layout, root, scene, job)

    monkeypatch.setattr(writing, "_draw_one", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write("coco", tmp_path / "set", **SMALL, workers=0)
    assert not any(tmp_path.iterdir())
    monkeypatch.undo()
    leftover = tmp_path / ".set.killed"
    (leftover / "set").mkdir(parents=True)  # what a killed run leaves
    write("coco", tmp_path / "set", **SMALL, workers=0)
    assert contents(tmp_path / "set") == contents(write("coco", tmp_path / "fresh", **SMALL, workers=0))


def test_a_set_finished_by_another_process_is_kept(tmp_path, monkeypatch):
    split = writing._write_splits

    def overtaken(layout, root, *rest):
        split(layout, root, *rest)
        monkeypatch.setattr(writing, "_write_splits", split)
        write("coco", tmp_path / "set", **SMALL, workers=0)

    monkeypatch.setattr(writing, "_write_splits", overtaken)
    assert write("coco", tmp_path / "set", **SMALL, workers=0).is_dir()
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [(["--train", "0"], "train: 0"), (["--size", "8x8"], "size: 8x8"), (["--seed", "-1"], "seed: -1")],
)
def test_wrong_arguments_are_one_line_and_status_2(tmp_path, capsys, wrong, named):
    assert main(["--layout", "coco", "--output", str(tmp_path / "set"), *wrong]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_unknown_layouts_are_refused(tmp_path):
    with pytest.raises(ValueError, match="layout: 'voc'"):
        write("voc", tmp_path / "set")


def test_help_loads_no_drawing_library():
    code = "import sys, datamodules.streetscenes.__main__; sys.exit('cv2' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


@pytest.mark.parametrize("damaged", ["{", "[]"])
def test_a_damaged_manifest_is_named(tmp_path, damaged):
    (tmp_path / "streetscenes.json").write_text(damaged)
    with pytest.raises(UserError, match=r"streetscenes\.json"):
        write("coco", tmp_path, **SMALL, workers=0)


def test_a_link_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    write("coco", tmp_path / "link", **SMALL, workers=0)
    assert (tmp_path / "link").is_symlink() and len(list((tmp_path / "disk/train2017").iterdir())) == 3


def test_an_output_that_cannot_be_is_one_line(capsys):
    assert main(["--layout", "coco", "--output", "/proc/none/set"]) == 2
    assert capsys.readouterr().err == "/proc/none/set cannot be written: No such file or directory\n"
