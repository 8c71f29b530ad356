"""A run's folder belongs to one process at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from configs import load_config
from errors import UserError
from lightning_modules import results
from lightning_modules.results import check_run_dir, claim_run_dir, is_held

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from configs import load_config
from lightning_modules.results import claim_run_dir
claim_run_dir(load_config("configs/quickstart.yaml", sys.argv[1:]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def config(tmp_path):
    return lambda *overrides: load_config(ROOT / "configs/quickstart.yaml", [f"output_dir={tmp_path}", *overrides])


def test_a_folder_is_held_until_its_process_is_gone(config, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "PATIENCE", 0.3)
    run_dir = check_run_dir(config())
    assert not is_held(run_dir)
    command = [sys.executable, "-c", HOLD, f"output_dir={tmp_path}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
    assert process.stdout.readline() == "held\n"
    assert is_held(run_dir)
    before = (run_dir / "config.yaml").read_bytes()
    for overrides in ([], ["optimizer.lr=7"]):
        with pytest.raises(UserError, match="is being written by another process that trains this run"):
            claim_run_dir(config(*overrides))
    assert (run_dir / "config.yaml").read_bytes() == before
    process.kill()
    process.wait()
    assert not is_held(run_dir)
    claim_run_dir(config())


@pytest.mark.parametrize("kept", ["checkpoints/last.ckpt", "results.json"])
def test_a_folder_is_free_until_an_epoch_is_finished_in_it(config, kept):
    """A mistyped setting would otherwise refuse the same command without the mistake."""
    run_dir = claim_run_dir(config("data.root=/nowhre"))
    (run_dir / "wandb-id").touch()
    claim_run_dir(config("data.root=/nowhre"))
    assert (run_dir / "wandb-id").exists()
    assert claim_run_dir(config("data.root=/nowhere")) == run_dir
    assert not (run_dir / "wandb-id").exists(), "the W&B run of other settings does not go on"
    (run_dir / kept).parent.mkdir(exist_ok=True)
    (run_dir / kept).touch()
    assert claim_run_dir(config("data.root=/nowhere", "data.num_workers=9")) == run_dir
    with pytest.raises(UserError, match=r"holds a run with data\.root=/nowhere, this one has /nowhre"):
        claim_run_dir(config("data.root=/nowhre"))


def test_before_that_it_is_said_whom_a_folder_is_for(config):
    run_dir = claim_run_dir(config("optimizer.lr=7"))
    assert check_run_dir(config()) == run_dir
    with pytest.raises(UserError, match=r"holds a run with optimizer\.lr=7\.0, this one has"):
        check_run_dir(config(), begun=True)
