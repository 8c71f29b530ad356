"""The real train.py, as a user runs it."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import train
from configs import load_config
from errors import UserError
from metrics.matches import read_matches

ROOT = Path(__file__).parent.parent
FAST = [
    "data.num_workers=0",
    "data.batch_size=2",
    "trainer.max_steps=4",
    "trainer.check_val_every_n_epoch=1",
    "trainer.log_every_n_steps=1",
    "model.min_size=[64]",
    "model.max_size=128",
]

CELL = ["--condition=body/blur", "--seed=1"]


def arguments(root, output, *overrides):
    base = ["data.streetscenes=null", f"data.root={root}", f"output_dir={output}", f"data.index_dir={output}/index"]
    return ["--config", "configs/quickstart.yaml", *FAST, *base, *overrides]


@pytest.fixture(scope="module")
def done(streetscenes, tmp_path_factory):
    output = tmp_path_factory.mktemp("outputs")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_SILENT": "true"}
    environment.pop("WANDB_MODE", None)
    environment.pop("WANDB_API_KEY", None)
    command = [sys.executable, "train.py", *arguments(streetscenes["cityscapes"], output), *CELL]
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert process.returncode == 0, process.stderr
    return output / "quickstart-body-blur-seed1", process


def test_run_folder_is_complete(done):
    run, process = done
    results = json.loads((run / "results.json").read_text())
    cell = {"dataset": "streetscenes", "condition": "body/blur", "region": "body", "method": "blur", "seed": 1}
    assert results | cell == results
    assert {"val/segm/AP", "val/segm/AP50", "val/bbox/AP"} <= results["metrics"].keys()
    assert any(k.startswith("val/segm/AP_") and k.endswith(("person", "car")) for k in results["metrics"])
    assert all(-1 <= v <= 100 for v in results["metrics"].values())
    assert results["anonymized_regions"] > 0 and results["wall_time_s"] > 0 and results["steps"] == 4
    assert results["best"].keys() == results["metrics"].keys()
    assert all(results["best"][name] >= value for name, value in results["metrics"].items())
    assert re.fullmatch("[0-9a-f]{40}(-dirty)?", results["commit"])
    assert results["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert results["config"]["data"]["batch_size"] == 2
    for kept in read_matches(run / "matches.npz"):
        names = [name for name in results["metrics"] if name.startswith(f"val/{kept.iou_type}/")]
        again = kept.average_precision(np.ones((1, len(kept.images))), [n.removeprefix("val/") for n in names])
        for name in names:
            assert again[name.removeprefix("val/")][0] == pytest.approx(results["metrics"][name])
    for name in ("config.yaml", "checkpoints/last.ckpt", "checkpoints/best.ckpt", "images/train.png", "images/val.png"):
        assert (run / name).stat().st_size > 0
    assert "train/loss" in (run / "csv" / "version_0" / "metrics.csv").read_text()
    assert list((run.parent / "wandb").glob("offline-run-*/*.wandb")), "offline without an account"
    assert process.stdout.rstrip().splitlines()[-1].endswith(f"results in {run / 'results.json'}")


def test_done_is_not_repeated_and_other_settings_are_refused(done, streetscenes, inside):
    run, _ = done
    command = [*arguments(streetscenes["cityscapes"], run.parent), *CELL]
    before = (run / "results.json").read_bytes()
    again = inside(train.main, *command)
    assert again.returncode == 0 and "already done" in again.stdout
    other = inside(train.main, *command, "optimizer.gamma=0.5")
    assert other.returncode == 2
    assert "holds a run with optimizer.gamma=0.1, this one has 0.5" in other.stderr
    assert len(other.stderr.strip().splitlines()) == 1
    assert (run / "results.json").read_bytes() == before


def test_interrupted_run_ends_like_an_undisturbed_one(done, streetscenes, inside, tmp_path):
    """Four steps are two epochs; a copy without the second ends with the same numbers, validated in between or not."""
    run, _ = done
    root = streetscenes["cityscapes"]
    process = inside(train.main, *arguments(root, tmp_path), *CELL)
    assert process.returncode == 0, process.stderr
    expected, repeated = (json.loads((r / run.name / "results.json").read_text()) for r in (run.parent, tmp_path))
    assert repeated["metrics"] == expected["metrics"], "a seed fixes the run"

    half = tmp_path / "half"
    stop = "import train; from pytorch_lightning import Trainer; import os; from pytorch_lightning import Callback\n"
    stop += "import lightning_modules.panels as p; old = p.ImagePanels.on_train_batch_start\n"
    stop += "def kill(self, trainer, *a):\n    os._exit(9) if trainer.global_step == 3 else old(self, trainer, *a)\n"
    stop += "p.ImagePanels.on_train_batch_start = kill; train.main()"
    command = [*arguments(root, half), *CELL, "trainer.check_val_every_n_epoch=3"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    killed = subprocess.run([sys.executable, "-c", stop, *command], cwd=ROOT, env=environment, timeout=500)
    assert killed.returncode == 9
    assert not (half / run.name / "results.json").exists()
    resumed = inside(train.main, *command)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming from" in resumed.stdout
    results = json.loads((half / run.name / "results.json").read_text())
    assert results["metrics"] == expected["metrics"]
    weights = [torch.load(r / run.name / "checkpoints/last.ckpt")["state_dict"] for r in (run.parent, tmp_path, half)]
    for other in weights[1:]:
        assert all(torch.equal(weights[0][key], other[key]) for key in weights[0])
    assert results["anonymized_regions"] == expected["anonymized_regions"]


def test_a_stopped_run_says_how_to_go_on(streetscenes, tmp_path):
    command = [sys.executable, "train.py", *arguments(streetscenes["cityscapes"], tmp_path)]
    command += ["trainer.max_steps=1000", "wandb.mode=disabled"]
    folder = tmp_path / "quickstart-original-seed0"
    for number in (signal.SIGTERM, signal.SIGINT):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while "step 7/" not in (line := process.stdout.readline()):
            assert line, process.stderr.read()
        process.send_signal(number)
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 1
        assert errors.splitlines()[-1] == (
            f"interrupted; the same command goes on from the last checkpoint in {folder}"
        )
        assert "Traceback" not in errors
        assert (folder / "checkpoints" / "last.ckpt").exists() and not (folder / "results.json").exists()


def test_a_mistake_is_one_line_and_exit_code_2(streetscenes, inside, tmp_path):
    process = inside(train.main, *arguments(streetscenes["cityscapes"], tmp_path), "optimizer.lr=1e12")
    errors = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert process.returncode == 2
    assert len(errors) == 1 and "Traceback" not in process.stderr
    assert re.search("loss is not finite .* on images [a-z]+_000", errors[0])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.layout=coco", "data.layout: unknown layout 'coco'"),
        ("data.root=/nowhere", "data.root: folder /nowhere does not exist"),
        ("optimizer.name=adam", "optimizer.name: unknown 'adam', did you mean 'adamw'"),
        ("optimizer.schedule=cosine", "optimizer.schedule: unknown 'cosine'"),
        ("trainer.accelerator=gpuu", "trainer: .*gpuu"),
        ("wandb.artifacts=[result]", "wandb.artifacts: unknown 'result', did you mean 'results'"),
        ("wandb.mode=offlin", "wandb.mode: unknown 'offlin', did you mean 'offline'"),
        ("model.name=rcnn", "model.name: unknown model 'rcnn'"),
        ("trainer.limit_val_batches=0", "trainer.limit_val_batches: 0 leaves nothing to evaluate"),
        ("trainer.val_check_interval=0", "trainer.val_check_interval: 0 is no interval"),
        ("trainer.val_check_interval=200", "trainer.val_check_interval: .*200"),
        ("trainer.max_steps=0", "trainer.max_steps: 0 is not 1 or more"),
        ("optimizer.lr=-1", "optimizer.lr: -1.0 is not 0 or more"),
        ("model.trainable_layers=6", "model.trainable_layers: 6 is not 0 or more, 5 at most"),
        ("data.streetscenes={size: [160]}", r"data.streetscenes.size: \[160\] is not \[height, width\]"),
        ("output_dir=/dev/null", "output_dir: /dev/null/.* cannot be written"),
    ],
)
def test_a_mistake_is_named_before_training(streetscenes, tmp_path, override, message):
    _, path, *overrides = arguments(streetscenes["cityscapes"], tmp_path, "wandb.mode=disabled", override)
    with pytest.raises(UserError, match=message):
        train.train(load_config(ROOT / path, overrides))


def own(config, root, output, *overrides):
    base = [f"data.root={root}", f"output_dir={output}", f"data.index_dir={output}/index"]
    return ["--config", f"configs/{config}.yaml", *FAST, *base, *overrides]


def test_keypoints_run(streetscenes, inside, tmp_path):
    cell = ["data.streetscenes=null", "condition=face/mask_out"]
    process = inside(train.main, *own("streetscenes_keypoints", streetscenes["coco"], tmp_path, *cell))
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "streetscenes_keypoints-face-mask_out-seed0" / "results.json").read_text())
    assert {"val/keypoints/AP", "val/keypoints/AP50", "val/bbox/AP_person"} <= results["metrics"].keys()


@pytest.mark.slow
@pytest.mark.parametrize("config", ["coco_instances", "coco_keypoints"])
def test_stock_model_on_photographs(coco_sample, inside, tmp_path, config):
    short = ["trainer.max_steps=2", "trainer.limit_val_batches=3", "data.val_split=train", "model.weights=null"]
    process = inside(train.main, *own(config, coco_sample, tmp_path, *short, "condition=body/blur"))
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / f"{config}-body-blur-seed0" / "results.json").read_text())
    assert results["anonymized_regions"] > 0
