"""Training steps that the tests of train.py do not take."""

import json
from pathlib import Path

import pytest

from configs import load_config
from train import train

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(("name", "layout"), [("quickstart", "cityscapes"), ("streetscenes_keypoints", "coco")])
def test_mixed_precision(streetscenes, tmp_path, name, layout):
    """What a CUDA device with bfloat16 trains in, when nothing else is said: with clipped gradients too."""
    overrides = ["trainer.precision=bf16-mixed", "trainer.max_steps=1", "trainer.limit_val_batches=1"]
    overrides += [
        "data.streetscenes=null",
        f"data.root={streetscenes[layout]}",
        "data.num_workers=0",
        "data.batch_size=1",
    ]
    overrides += [f"data.index_dir={tmp_path}", f"output_dir={tmp_path}", "wandb.mode=disabled"]
    overrides += ["model.min_size=[64]", "model.max_size=128", "trainer.accelerator=cpu"]
    train(load_config(CONFIGS / f"{name}.yaml", overrides))
    results = json.loads((tmp_path / f"{name}-original-seed0" / "results.json").read_text())
    assert results["config"]["trainer"]["precision"] == "bf16-mixed" and results["steps"] == 1
