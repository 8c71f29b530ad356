"""anonymize.py and annotate.py in several processes: what they make together is what one makes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from annotate import annotate, annotated_faces
from anonymize import DatasetJob, anonymize_dataset
from configs import load_config
from datamodules.manifest import Manifest
from datamodules.streetscenes import write
from errors import UserError
from processes import STARTERS, share

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for names in STARTERS:
        for name in names:
            monkeypatch.delenv(name, raising=False)


@pytest.fixture
def config(streetscenes, tmp_path):
    """Load a config of the dataset in COCO's layout, which has keypoints to make faces of."""

    def load(*overrides):
        own = [f"data.root={streetscenes['coco']}", "data.streetscenes=null", f"data.index_dir={tmp_path / 'index'}"]
        return load_config(ROOT / "configs/streetscenes_keypoints.yaml", [*own, "seed=3", *overrides])

    return load


@pytest.fixture
def process(config, tmp_path, monkeypatch):
    """Do the work of one of several processes: script, its number, how many, output."""

    def run(script, number, count, name):
        monkeypatch.setenv("RANK", str(number))
        monkeypatch.setenv("WORLD_SIZE", str(count))
        if script == "anonymize":
            return anonymize_dataset(config("condition=body/blur"), DatasetJob(str(tmp_path / name), workers=0))
        return annotate(config("faces.detector=coco-keypoints"), output=tmp_path / name, workers=0)

    return run


def content(path):
    """All that was written: a file's bytes, or those of every file of a folder, and its links."""
    if path.is_file():
        return path.read_bytes()
    return {
        p.relative_to(path).as_posix(): p.readlink() if p.is_symlink() else p.read_bytes()
        for p in path.rglob("*")
        if p.is_symlink() or p.is_file()
    }


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "2", "WORLD_SIZE": "3"}, (2, 3)),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"}, (1, 4)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (0, 1)),  # a batch script, without srun
        ({"RANK": "0", "WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, (0, 2)),
    ],
)
def test_which_share(monkeypatch, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert share() == expected


@pytest.mark.parametrize(("rank", "message"), [("3", "RANK=3 is none of WORLD_SIZE=3"), ("x", "RANK=x is no number")])
def test_an_impossible_share(monkeypatch, rank, message):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match=message):
        share()


@pytest.mark.parametrize("script", ["anonymize", "annotate"])
@pytest.mark.parametrize("order", [(0, 1), (2, 0, 1)])
def test_shares_make_what_one_process_makes(process, tmp_path, script, order):
    process(script, 0, 1, "whole")
    for number in order[:-1]:
        process(script, number, len(order), "together")
        assert not (tmp_path / "together" / "manifest.json").exists() and not (tmp_path / "together").is_file()
    process(script, order[-1], len(order), "together")
    assert content(tmp_path / "together") == content(tmp_path / "whole")
    before = content(tmp_path / "together")
    process(script, order[0], len(order), "together")  # late, or once more
    assert content(tmp_path / "together") == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("together.")]


@pytest.mark.parametrize("script", ["anonymize", "annotate"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_an_unfinished_share_is_made_by_any_number_of_processes(process, tmp_path, script, count):
    process(script, 0, 1, "whole")
    process(script, 0, 3, "together")
    process(script, 2, 3, "together")  # the second of three has never come
    for number in range(count):
        process(script, number, count, "together")
    assert content(tmp_path / "together") == content(tmp_path / "whole")


def test_a_line_of_a_killed_process_is_no_image(process, tmp_path):
    """Its journal has a line for an image that is not there: the copy is not finished before it is."""
    process("anonymize", 0, 1, "whole")
    process("anonymize", 0, 2, "together")
    images = json.loads((tmp_path / "whole/manifest.json").read_text())["images"]
    made = json.loads((tmp_path / "together/manifest.1-of-2.jsonl").read_text().split("\n")[0])
    lines = [json.dumps(made), *(json.dumps({"name": name, **entry}) for name, entry in images.items())]
    (tmp_path / "together/manifest.2-of-2.jsonl").write_text("\n".join(lines))
    process("anonymize", 0, 3, "together")
    assert not (tmp_path / "together/manifest.json").exists()
    process("anonymize", 1, 3, "together")
    process("anonymize", 2, 3, "together")
    assert content(tmp_path / "together") == content(tmp_path / "whole")


def test_who_waited_while_another_gathered_leaves_it_at_that(tmp_path):
    """The failures stood in the journals, which are gone: a second manifest would say that there were none."""
    folder = tmp_path / "copy"
    first, second = (Manifest(folder, {}, (number, 2)) for number in range(2))
    with first.claimed(), second.claimed():
        first.end_share({}, {"a.png": "is damaged"})
        second.end_share({}, {})
        with first.alone():
            images, failures = first.gather(["a.png"])
            first.finish({"failures": len(failures)}, images)
        with second.alone():
            assert second.gather(["a.png"]) is None
    assert json.loads((folder / "manifest.json").read_text())["failures"] == 1


def test_who_may_not_write_at_the_same_time(tmp_path):
    folder = tmp_path / "copy"
    with Manifest(folder, {}, (0, 2)).claimed():
        with Manifest(folder, {}, (1, 2)).claimed():
            pass
        for other in ((0, 2), (1, 3), (0, 1)):
            with pytest.raises(UserError, match="another process is writing"), Manifest(folder, {}, other).claimed():
                pass


def test_a_damaged_picture_is_reported_by_its_share_and_in_the_end(process, streetscenes, config, tmp_path):
    from shutil import copytree

    root = copytree(streetscenes["coco"], tmp_path / "source")
    victim = sorted((root / "train2017").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:99])
    overrides = [f"data.root={root}", "condition=body/blur"]

    def run(number):
        os.environ.update(RANK=str(number), WORLD_SIZE="2")
        return anonymize_dataset(config(*overrides), DatasetJob(str(tmp_path / "copy"), workers=0))

    process("annotate", 0, 1, "unused")  # so that monkeypatch restores both variables
    assert [run(0), run(1)] == [False, False]
    assert json.loads((tmp_path / "copy/manifest.json").read_text())["failures"] == 1
    assert victim.name in (tmp_path / "copy/failures.csv").read_text()


def test_an_unreadable_image_of_another_share_is_looked_at_again(process, config, tmp_path, monkeypatch):
    """One that was mended meanwhile must not be left out: without its entry its faces would stay in sight."""
    process("annotate", 0, 1, "whole")
    broken = {min(json.loads((tmp_path / "whole").read_text()), key=int)}

    def find(record):
        if record.image_id in broken:
            raise UserError(f"{record.path} is damaged")
        return annotated_faces(record)

    def run(number, *overrides):
        monkeypatch.setenv("RANK", str(number))
        monkeypatch.setenv("WORLD_SIZE", "2")
        annotate(config("faces.detector=coco-keypoints", *overrides), output=tmp_path / "faces", workers=0)

    monkeypatch.setattr("annotate.make_finder", lambda *_: find)
    for number in range(2):  # the one whose image it is, and the one that ends last
        with pytest.raises(UserError, match=r"faces is not written: 1 of \d+ images cannot be read"):
            run(number)
    broken.clear()
    run(1)
    assert (tmp_path / "faces").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.slow
def test_one_of_two_killed_and_started_again(tmp_path):
    """The real command: one of two processes is killed at work, then both are started again."""
    source = write("cityscapes", tmp_path / "source", train=40, val=1, size=(128, 256), workers=0)
    program = [
        sys.executable,
        "anonymize.py",
        "--config",
        "configs/quickstart.yaml",
        f"data.root={source}",
        "workers=1",
    ]
    program += ["data.streetscenes=null", f"data.index_dir={tmp_path / 'index'}", "condition=body/blur"]

    def start(number, count, output):
        environment = os.environ | {"RANK": str(number), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
        command = [*program, f"output={tmp_path / output}"]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)

    assert start(0, 1, "whole").wait(100) == 0
    both = [start(number, 2, "copy") for number in range(2)]
    deadline = time.monotonic() + 100
    journal = tmp_path / "copy/manifest.2-of-2.jsonl"
    while not (journal.exists() and '"name"' in journal.read_text()):
        assert time.monotonic() < deadline and both[1].poll() is None
        time.sleep(0.005)
    both[1].kill()
    assert both[1].wait() == -signal.SIGKILL
    out, _ = both[0].communicate(timeout=100)
    assert both[0].returncode == 0 and "share 1 of 2 is done" in out
    assert not (tmp_path / "copy/manifest.json").exists()
    both = [start(number, 2, "copy") for number in range(2)]
    outs = [process.communicate(timeout=100)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert any("40 images in" in out for out in outs)
    assert content(tmp_path / "copy") == content(tmp_path / "whole")
