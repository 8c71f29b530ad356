"""The real evaluate.py, as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from configs import load_config
from errors import UserError
from evaluate import evaluate, main, table
from train import train

ROOT = Path(__file__).parent.parent
# Few confident predictions after three steps: count them all.
FAST = ["data.streetscenes=null", "data.num_workers=0", "wandb.mode=disabled", "model.arguments.box_score_thresh=0.001"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a short run, and what its config needs besides."""
    from datamodules.streetscenes import write

    folder = tmp_path_factory.mktemp("run")
    root = write("cityscapes", folder / "data", train=4, val=5, size=(128, 256), workers=0)
    overrides = [*FAST, f"data.root={root}", f"output_dir={folder}", f"data.index_dir={folder / 'index'}"]
    overrides += ["trainer.max_steps=3", "data.batch_size=2", "condition=body/blur"]
    train(load_config(ROOT / "configs" / "quickstart.yaml", overrides))
    return folder / "quickstart-body-blur-seed0"


def test_a_checkpoint_has_the_values_of_its_run(run, tmp_path):
    config = load_config(run / "config.yaml")
    values = evaluate(config, run / "checkpoints" / "last.ckpt", tmp_path)
    expected = json.loads((run / "results.json").read_text())["metrics"]
    assert values == expected and 0 < values["val/segm/AP"] < 100
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["metrics"] == expected
    assert (written["images"], written["split"], written["config"]["condition"]) == (5, "val", "body/blur")
    assert len(list((tmp_path / "cityscapes").glob("*.txt"))) == 5


def command(run, *arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    start = [sys.executable, "evaluate.py", "--config", run / "config.yaml"]
    return subprocess.run([*start, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_command_line(run, inside):
    process = inside(main, "--config", run / "config.yaml", "--checkpoint", run / "checkpoints" / "best.ckpt")
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert any(line.split("│")[1:2] == [" AP_car          "] for line in lines), process.stdout


@pytest.mark.slow
def test_two_processes_give_the_result_of_one(run, tmp_path):
    for name, devices in (("one", 1), ("two", 2)):
        hardware = [
            "trainer.accelerator=cpu",
            f"trainer.devices={devices}",
            "trainer.strategy=ddp",
            "data.batch_size=1",
        ]
        checkpoint = run / "checkpoints" / "last.ckpt"
        process = command(run, "--checkpoint", checkpoint, "--output", tmp_path / name, *hardware)
        assert process.returncode == 0, process.stderr
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert one["metrics"] == two["metrics"] and one["images"] == two["images"] == 5
    files = [{p.name: p.read_bytes() for p in (tmp_path / n / "cityscapes").rglob("*.*")} for n in ("one", "two")]
    assert files[0] == files[1]


def test_mistakes_are_named(run, inside, tmp_path):
    config = load_config(run / "config.yaml")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"--checkpoint: 'nowhere\.ckpt' is not a file"):
        evaluate(config, "nowhere.ckpt", None)
    with pytest.raises(UserError, match=r"--checkpoint: .*other\.pt is not of maskrcnn_small with 8 classes"):
        evaluate(config, tmp_path / "other.pt", None)
    fewer = load_config(run / "config.yaml", ["data.ignore_classes=[person]"])
    with pytest.raises(UserError, match="is not of maskrcnn_small with 7 classes: size mismatch"):
        evaluate(fewer, run / "checkpoints" / "last.ckpt", None)
    with pytest.raises(UserError, match=r"model.weights: 'weights/streetscenes.pt' leaves .* untrained .*--checkpoint"):
        evaluate(config, None, None)
    with pytest.raises(UserError, match=r"--output: .*other\.pt cannot be written"):
        evaluate(config, run / "checkpoints" / "last.ckpt", tmp_path / "other.pt")
    missing = load_config(run / "config.yaml", ["data.layout=coco"])
    with pytest.raises(UserError, match=r"data\.layout: unknown layout 'coco'"):
        evaluate(missing, None, None)
    process = inside(main, "--config", run / "config.yaml", "--checkpoint", "nowhere.ckpt")
    assert process.returncode == 2 and len(process.stderr.strip().splitlines()) == 1


def test_a_class_may_have_a_slash_in_its_name():
    shown = table({"val/bbox/AP": 1.0, "val/segm/AP": 2.0, "val/bbox/AP_car/van": 3.0, "val/segm/AP_car/van": 4.0})
    assert [list(column.cells) for column in shown.columns] == [
        ["AP", "AP_car/van"],
        ["1.00", "3.00"],
        ["2.00", "4.00"],
    ]
