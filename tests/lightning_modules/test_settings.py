"""What a config leaves to the machine, and the schedule that follows."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from configs import OptimizerConfig, load_config
from errors import UserError
from lightning_modules.detection import build_schedule
from lightning_modules.settings import build_trainer, default_precision, fit_to_machine

CONFIGS = Path(__file__).parents[2] / "configs"


def fitted(name, *overrides):
    return fit_to_machine(load_config(CONFIGS / f"{name}.yaml", ["trainer.accelerator=cpu", *overrides]))


@pytest.mark.parametrize(
    ("name", "steps", "images", "lr"), [("cityscapes", 24000, 8, 0.01), ("coco_keypoints", 270000, 16, 0.02)]
)
def test_the_schedule_as_it_is_printed(name, steps, images, lr, capsys):
    config = fitted(name)
    assert (config.data.batch_size, config.trainer["max_steps"], config.optimizer.lr) == (images, steps, lr)
    assert capsys.readouterr().out == ""


def test_another_batch_scales_rate_and_steps_and_says_so(capsys):
    config = fitted("cityscapes", "data.batch_size=1", "trainer.accumulate_grad_batches=2", "trainer.devices=2")
    assert config.optimizer.lr == 0.005
    assert (config.trainer["max_steps"], config.optimizer.warmup_steps) == (48000, 2000)
    assert config.optimizer.milestones == [0.75]
    line = "4 images a step instead of 8: by the linear rule learning rate 0.005, warm-up over 2000 steps, 48000 steps"
    assert capsys.readouterr().out == f"{line} in all\n"
    assert fit_to_machine(config) == config and capsys.readouterr().out == "", "it is done once"


def test_a_given_length_is_taken_as_it_is():
    config = fitted("coco_instances", "data.batch_size=4", "trainer.max_steps=2")
    assert (config.trainer["max_steps"], config.optimizer.lr) == (2, 0.005)


def test_the_quickstart_holds_for_any_batch(capsys):
    for overrides in ([], ["data.batch_size=2"]):
        asked = load_config(CONFIGS / "quickstart.yaml", overrides)
        config = fit_to_machine(asked)
        assert config.optimizer == asked.optimizer and config.trainer["max_steps"] == 340
    assert capsys.readouterr().out == ""


def test_precision_follows_the_device(monkeypatch):
    assert fitted("cityscapes").trainer["precision"] == "32-true"
    assert fitted("cityscapes", "trainer.precision=bf16-mixed").trainer["precision"] == "bf16-mixed"
    for has_bfloat16, precision in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=has_bfloat16: has)
        assert default_precision(torch.device("cuda")) == precision
        assert default_precision(torch.device("cpu")) == "32-true"


def test_bfloat16_on_a_processor_without_it_is_said_to_be_slow(monkeypatch, capsys):
    for has_bfloat16, said in ((True, False), (False, True)):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda has=has_bfloat16: has)
        fitted("cityscapes", "trainer.precision=bf16-mixed")
        assert ("trainer.precision=bf16-mixed is slow on this processor" in capsys.readouterr().err) == said
        fitted("cityscapes")
        fitted("cityscapes", "trainer.precision=16-mixed")
        assert not capsys.readouterr().err


def test_hardware_that_is_not_there_is_named():
    with pytest.raises(UserError, match=r"trainer: .*gpuu"):
        fit_to_machine(load_config(CONFIGS / "quickstart.yaml", ["trainer.accelerator=gpuu"]))


def test_rate_over_the_steps():
    """Detectron2's WarmupMultiStepLR: its warm-up ends at 1000, its drops begin at 210000 and 250000."""
    config = load_config(CONFIGS / "coco_instances.yaml").optimizer
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], config.lr)
    (factor,) = build_schedule(optimizer, config, 270000).lr_lambdas
    for step, expected in [(0, 0.001), (500, 0.5005), (999, 0.999001), (1000, 1), (209999, 1), (210000, 0.1)]:
        assert factor(step) == pytest.approx(expected, rel=1e-9)
    for step, expected in [(249999, 0.1), (250000, 0.01), (269999, 0.01)]:
        assert factor(step) == pytest.approx(expected, rel=1e-9)
    assert OptimizerConfig().warmup_factor == 0.001


def test_one_device_where_nothing_is_said(monkeypatch):
    """Lightning itself would take all, and with them another number of images a step."""
    given = []
    monkeypatch.setattr(
        "lightning_modules.settings.Trainer",
        lambda **arguments: given.append(arguments) or SimpleNamespace(world_size=1),
    )
    build_trainer()
    build_trainer(devices=2)
    assert given == [{"devices": 1}, {"devices": 2}]
