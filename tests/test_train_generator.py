"""The real train.py on a generator's config, as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import safe_open

import train
from anonymization.generators import load_generator
from configs import GeneratorExperiment, load_config, trains_generator
from errors import UserError

ROOT = Path(__file__).parent.parent
SMALL = [
    "generator.steps=2",
    "generator.held_out=0.3",
    "generator.channels=[8,16]",
    "generator.discriminator_channels=[8,16]",
    "generator.centers=4",
    "data.batch_size=2",
    "data.num_workers=0",
    "data.streetscenes=null",
    "trainer.val_check_interval=null",
    "trainer.check_val_every_n_epoch=2",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1",
    "wandb.mode=offline",
]


def arguments(root, output, *overrides, region="body"):
    places = [f"data.root={root}", f"output_dir={output}", f"data.index_dir={output}/index"]
    config = f"configs/generators/streetscenes_{region}.yaml"
    smallest = {"body": 12, "face": 0}[region]  # pixels; smaller bodies are not cut at all
    return ["--config", config, *SMALL, f"generator.smallest={smallest}", *places, *overrides]


def command(*of, **options):
    return [sys.executable, "train.py", *arguments(*of, **options)]


def run(*of, **options):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_SILENT": "true"}
    return subprocess.run(
        command(*of, **options), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500
    )


@pytest.mark.parametrize(("region", "crop"), [("body", (288, 160)), ("face", (128, 128))])
def test_run_ends_with_a_generator(streetscenes, inside, tmp_path, region, crop):
    process = run(streetscenes["cityscapes"], tmp_path, region=region)
    assert process.returncode == 0, process.stderr
    folder = tmp_path / f"streetscenes_{region}-seed0"
    results = json.loads((folder / "results.json").read_text())
    assert results["region"] == region and results["steps"] == 2 and results["people"] > 0
    assert results["metrics"]["val/fid"] > 0, "after two steps nobody looks like a person"
    assert (folder / "images" / "people.png").stat().st_size > 0 and any((folder.parent / "wandb").iterdir())
    weights = folder / "generator.safetensors"
    assert load_generator(f"generators.{region}", str(weights), crop).crop == crop
    with safe_open(weights, "pt") as file:
        about = {key: json.loads(value) for key, value in file.metadata().items()}
    assert about["config"]["generator"]["region"] == region and about["steps"] == 2 and about["versions"]["torch"]
    assert f"use it by generators.{region}={weights}" in process.stdout

    of = arguments(streetscenes["cityscapes"], tmp_path, region=region)
    again = inside(train.main, *of)
    assert again.returncode == 0 and "already done" in again.stdout
    other = inside(train.main, *of, "generator.r1=2.0")
    assert other.returncode == 2 and "generator.r1=1.0, this one has 2.0" in other.stderr


@pytest.mark.slow
def test_killed_run_ends_with_the_same_generator(streetscenes, tmp_path):
    root, steps = streetscenes["cityscapes"], "generator.steps=12"
    assert run(root, tmp_path / "whole", steps).returncode == 0
    whole = next((tmp_path / "whole").glob("*/generator.safetensors"))

    environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_SILENT": "true"}
    process = subprocess.Popen(command(root, tmp_path / "killed", steps), cwd=ROOT, env=environment)
    last = tmp_path / "killed" / whole.parent.name / "checkpoints" / "last.ckpt"
    while not last.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (last.parent.parent / "results.json").exists(), "it had ended before it could be killed"
    again = run(root, tmp_path / "killed", steps)
    assert again.returncode == 0 and "resuming from" in again.stdout, again.stderr
    with safe_open(whole, "pt") as one, safe_open(last.parent.parent / "generator.safetensors", "pt") as other:
        assert all((one.get_tensor(key) == other.get_tensor(key)).all() for key in one.keys())  # noqa: SIM118


@pytest.mark.slow
def test_two_processes_train_one_generator(streetscenes, tmp_path):
    process = run(
        streetscenes["cityscapes"],
        tmp_path,
        "trainer.accelerator=cpu",
        "trainer.devices=2",
        "trainer.strategy=ddp_find_unused_parameters_true",
        "data.batch_size=1",
    )
    assert process.returncode == 0, process.stderr
    assert len(list(tmp_path.glob("*/generator.safetensors"))) == 1


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "generators").glob("*.yaml")), ids=lambda path: path.stem)
def test_configs_of_generators_are_of_that_schema(path):
    assert trains_generator(path)
    assert load_config(path, [], GeneratorExperiment).generator.steps > 0
    assert not trains_generator(ROOT / "configs" / "quickstart.yaml")
    with pytest.raises(UserError, match=r"unknown key 'generator\.chanels', did you mean 'channels'"):
        load_config(path, ["generator.chanels=[8]"], GeneratorExperiment)
