"""The real train.py in two processes, started by Lightning, torchrun and (as it seems to them) SLURM."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_train import FAST

from configs import load_config
from datamodules.layouts import build_datamodule
from errors import UserError
from evaluate import evaluate
from lightning_modules.settings import build_trainer
from metrics.matches import read_matches

ROOT = Path(__file__).parent.parent
NAME = "quickstart-body-blur-seed1"
TWO = ["trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu"]
# Stands in for train.py: process WHO fails in the way HOW at its fourth step.
FAILING = """
import os
import train
from errors import UserError
from lightning_modules.panels import ImagePanels

go_on = ImagePanels.on_train_batch_start

def fail(self, trainer, *arguments):
    if (trainer.global_step, trainer.global_rank) == (3, int(os.environ["WHO"])):
        if os.environ["HOW"] == "mistake":
            raise UserError("data.root: a picture is damaged")
        os.kill(os.getpid(), 9)
    go_on(self, trainer, *arguments)

ImagePanels.on_train_batch_start = fail
if __name__ == "__main__":
    train.main()
"""


def arguments(root, output, *more):
    base = [f"data.root={root}", "data.streetscenes=null", f"output_dir={output}", f"data.index_dir={output}/index"]
    cell = ["condition=body/blur", "seed=1"]
    return ["--config", "configs/quickstart.yaml", *FAST, *TWO, *base, *cell, *more]


def start(command, **environment):
    given = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "SLURM"))}
    given |= {"OMP_NUM_THREADS": "1", "WANDB_SILENT": "true", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen(
        command, cwd=ROOT, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def end(process, seconds=120):
    """Wait for its end; return exit code, standard output, and the lines on standard error that are ours."""
    out, errors = process.communicate(timeout=seconds)
    return process.returncode, out, [line for line in errors.splitlines() if "Initializing distributed" not in line]


def check_all_ended(process):
    """Nothing is left of what it started."""
    deadline = time.monotonic() + 20
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.1)


def results(output):
    return json.loads((output / NAME / "results.json").read_text())


def weights(output):
    return torch.load(output / NAME / "checkpoints/last.ckpt")["state_dict"]


def check_same(output, expected):
    assert results(output)["metrics"] == results(expected)["metrics"]
    assert results(output)["anonymized_regions"] == results(expected)["anonymized_regions"]
    mine, theirs = weights(output), weights(expected)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert len(list((output / "wandb").glob("offline-run-*"))) == 1


@pytest.fixture(scope="module")
def done(streetscenes, tmp_path_factory):
    output = tmp_path_factory.mktemp("two")
    process = start([sys.executable, "train.py", *arguments(streetscenes["cityscapes"], output)])
    code, out, errors = end(process)
    assert code == 0, errors
    assert not errors
    assert out.count("val/segm/AP") == 3 and out.count("results in") == 1, "said once"
    return output


def test_one_run_written_by_one_process(done):
    assert len(list((done / "wandb").glob("offline-run-*"))) == 1
    files = {path.relative_to(done / NAME).as_posix() for path in (done / NAME).rglob("*") if path.is_file()}
    checkpoints = {"checkpoints/best.ckpt", "checkpoints/last.ckpt"}
    written = {"config.yaml", "results.json", "matches.npz", "csv/version_0/metrics.csv", ".lock"}
    written |= {"wandb-id", "wandb-finished"}
    assert files == checkpoints | written | {"images/train.png", "images/val.png"}
    assert results(done)["config"]["trainer"]["devices"] == 2


def test_evaluation_is_that_of_one_process(done, streetscenes, tmp_path):
    """Of the same weights: every detection, its score and what it matched, of every image once."""
    base = arguments(streetscenes["cityscapes"], tmp_path, "trainer.devices=1", "trainer.strategy=auto")[2:]
    checkpoint = done / NAME / "checkpoints/last.ckpt"
    evaluate(load_config(ROOT / "configs/quickstart.yaml", base), checkpoint, tmp_path / "out")
    assert json.loads((tmp_path / "out/metrics.json").read_text())["metrics"] == results(done)["metrics"]
    pairs = zip(read_matches(done / NAME / "matches.npz"), read_matches(tmp_path / "out/matches.npz"), strict=True)
    for mine, theirs in pairs:
        assert len(mine.images) == 3 and len(mine.score) > 0
        mine, theirs = dict(vars(mine)), dict(vars(theirs))
        # Another image in the batch is another rounding: measured 1.3e-7.
        np.testing.assert_allclose(mine.pop("score"), theirs.pop("score"), rtol=0, atol=1e-6)
        np.testing.assert_equal(mine, theirs)


@pytest.mark.parametrize("condition", ["body/blur", "face/mask_out"])
def test_two_processes_see_the_batches_of_one(streetscenes, tmp_path, condition):
    """Step by step the same images, each with the same pixels: two of each process are the four of one."""
    overrides = arguments(streetscenes["cityscapes"], tmp_path, f"condition={condition}")[2:]

    def steps(rank, size, batch_size):
        config = load_config(ROOT / "configs/quickstart.yaml", [*overrides, f"data.batch_size={batch_size}"])
        module = build_datamodule(config)
        module.setup("fit")
        module.trainer = SimpleNamespace(training=True, world_size=size, global_rank=rank, current_epoch=0)
        loader = module.train_dataloader()
        loader.sampler.set_epoch(2)
        for batch in loader:
            batch = module.on_after_batch_transfer(batch, 0)
            yield {target["image_id"]: image for target, image in zip(batch.targets, batch.images, strict=True)}

    seen = 0
    for first, second, whole in zip(steps(0, 2, 1), steps(1, 2, 1), steps(0, 1, 2), strict=True):
        assert (first | second).keys() == whole.keys() and not first.keys() & second.keys()
        assert all(torch.equal((first | second)[image_id], whole[image_id]) for image_id in whole)
        seen += len(whole)
    assert seen == 6


@pytest.mark.slow
def test_a_killed_process_ends_the_run_which_then_goes_on(done, streetscenes, tmp_path):
    (tmp_path / "failing.py").write_text(FAILING)
    both = arguments(streetscenes["cityscapes"], tmp_path)
    code, _, errors = end(
        start([sys.executable, tmp_path / "failing.py", *both], WHO="1", HOW="kill", WANDB_MODE="disabled")
    )
    said = f"another process of the run has ended (exit code -9); the same command goes on in {tmp_path / NAME}"
    assert (code, errors) == (1, [said])
    assert not (tmp_path / NAME / "results.json").exists()
    code, out, errors = end(start([sys.executable, "train.py", *both]))
    assert code == 0, errors
    assert out.count("resuming from") == 1
    check_same(tmp_path, done)


@pytest.mark.parametrize("who", [pytest.param("0", marks=pytest.mark.slow), "1"])
def test_a_mistake_in_one_process_is_one_line(streetscenes, tmp_path, who):
    (tmp_path / "failing.py").write_text(FAILING)
    command = [sys.executable, tmp_path / "failing.py", *arguments(streetscenes["cityscapes"], tmp_path)]
    process = start(command, WHO=who, HOW="mistake", WANDB_MODE="disabled")
    assert end(process)[::2] == (2, ["error: data.root: a picture is damaged"])
    check_all_ended(process)


@pytest.mark.slow
def test_the_others_end_when_the_first_is_killed(streetscenes, tmp_path):
    (tmp_path / "failing.py").write_text(FAILING)
    command = [sys.executable, tmp_path / "failing.py", *arguments(streetscenes["cityscapes"], tmp_path)]
    process = start(command, WHO="0", HOW="kill", WANDB_MODE="disabled")
    assert end(process)[::2] == (-signal.SIGKILL, [])
    check_all_ended(process)


def torchrun(command):
    return start([Path(sys.executable).with_name("torchrun"), "--standalone", "--nproc_per_node=2", *command])


def srun(command):
    """Start two processes as `srun --ntasks-per-node=2` does."""
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NAME": "train", "SLURM_NNODES": "1", "SLURM_NODEID": "0"}
    job |= dict.fromkeys(("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_STEP_NUM_TASKS"), "2")
    job |= {"MASTER_ADDR": "127.0.0.1"}
    return [
        start([sys.executable, *command], **job, SLURM_PROCID=number, SLURM_LOCALID=number) for number in ("0", "1")
    ]


@pytest.mark.slow
def test_started_by_torchrun(done, streetscenes, tmp_path):
    process = torchrun(["train.py", *arguments(streetscenes["cityscapes"], tmp_path)])
    code, _, errors = end(process)
    assert code == 0, errors
    check_same(tmp_path, done)


@pytest.mark.slow
def test_started_by_slurm(done, streetscenes, tmp_path):
    command = ["train.py", *arguments(streetscenes["cityscapes"], tmp_path)]
    assert [end(process)[0] for process in srun(command)] == [0, 0]
    check_same(tmp_path, done)
    ends = [end(process) for process in srun(command)]
    assert [code for code, _, _ in ends] == [0, 0]
    assert [out.count("already done") for _, out, _ in ends] == [1, 0]
    first, second = srun([*command, "optimizer.gamma=0.5"])
    assert end(first)[::2] == (
        2,
        ends_with := [
            f"error: {tmp_path / NAME} holds a run with optimizer.gamma=0.1, this "
            "one has 0.5; choose another output_dir or remove the folder"
        ],
    )
    assert second.poll() is None, "srun --kill-on-bad-exit would end it here, before it says the same"
    assert end(second)[::2] == (2, ends_with)


@pytest.mark.parametrize(("rank", "count"), [("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")])
def test_more_processes_than_devices_are_refused(monkeypatch, rank, count):
    """Each would train a model of its own, and all would write to one folder."""
    monkeypatch.setenv(rank, "1")
    monkeypatch.setenv(count, "2")
    with pytest.raises(UserError, match="trainer: 2 processes were started, but devices × num_nodes is 1; "):
        build_trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
