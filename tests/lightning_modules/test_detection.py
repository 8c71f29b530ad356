"""Training steps that the tests of train.py do not take."""

import json
from pathlib import Path

import pytest
import torch

from configs import load_config
from metrics.coco import CocoAP
from train import train

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(("name", "layout"), [("quickstart", "cityscapes"), ("streetscenes_keypoints", "coco")])
def test_mixed_precision(streetscenes, tmp_path, monkeypatch, name, layout):
    """What a CUDA device with bfloat16 trains in, when nothing else is said: with clipped gradients too."""
    types = set()
    convolve = torch.nn.Conv2d.forward

    def watched(self, *inputs):
        output = convolve(self, *inputs)
        types.add(output.dtype)
        return output

    monkeypatch.setattr(torch.nn.Conv2d, "forward", watched)
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
    assert torch.bfloat16 in types


def test_the_best_checkpoint_is_of_the_best_validation(streetscenes, tmp_path, monkeypatch):
    """Whether that is within the training or, as where steps end between two validations, after it."""
    values = iter([3.0, 9.0, 5.0, 3.0, 5.0, 9.0])
    compute = CocoAP.compute

    def computed(self):
        return compute(self) | ({"segm/AP": next(values)} if "segm" in self.iou_types else {})

    monkeypatch.setattr(CocoAP, "compute", computed)
    for seed, steps, best in ((0, 6, 4), (1, 5, 5)):
        overrides = ["data.streetscenes=null", f"data.root={streetscenes['coco']}", "data.layout=coco_instances"]
        overrides += ["data.num_workers=0", "data.batch_size=1", f"trainer.max_steps={steps}", "model.min_size=[64]"]
        overrides += ["trainer.limit_train_batches=2"]
        overrides += [f"data.index_dir={tmp_path}", f"output_dir={tmp_path}", "wandb.mode=disabled", f"seed={seed}"]
        overrides += ["trainer.check_val_every_n_epoch=1", "model.max_size=128", "trainer.limit_val_batches=1"]
        train(load_config(CONFIGS / "quickstart.yaml", overrides))
        folder = tmp_path / f"quickstart-original-seed{seed}"
        checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
        assert checkpoint["global_step"] == best
        assert json.loads((folder / "results.json").read_text())["best"]["val/segm/AP"] == 9
