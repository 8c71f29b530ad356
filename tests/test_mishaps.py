"""What happens to the real train.py and anonymize.py from outside: one line says it, and what was finished stays."""

import errno
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image

import lightning_modules.mishaps
from datamodules.files import fingerprint
from errors import UserError, script
from lightning_modules.mishaps import CheckpointIO, naming_mishaps

ROOT = Path(__file__).parent.parent
FAST = [
    "data.streetscenes=null",
    "data.num_workers=0",
    "data.batch_size=2",
    "trainer.max_steps=300",
    "trainer.check_val_every_n_epoch=1",
    "trainer.log_every_n_steps=1",
    "trainer.limit_val_batches=1",
    "model.weights=null",
    "model.min_size=[64]",
    "model.max_size=128",
    "wandb.mode=disabled",
]


@pytest.fixture
def source(streetscenes, tmp_path):
    """A dataset of one's own to spoil."""
    return shutil.copytree(streetscenes["cityscapes"], tmp_path / "source")


class Training:
    """A run of train.py whose output is read line by line."""

    def __init__(self, source, output, *overrides, **options):
        data = [f"data.root={source}", f"data.index_dir={source.parent / 'index'}", f"output_dir={output}"]
        command = [sys.executable, "train.py", "--config", "configs/quickstart.yaml", *FAST, *data, *overrides]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes, **options)
        self.folder = output / "quickstart-original-seed0"
        self.last = self.folder / "checkpoints" / "last.ckpt"

    def wait_for(self, text):
        while text not in (line := self.process.stdout.readline()):
            assert line, self.process.stderr.read()

    def error(self):
        """The one line that the run ends with."""
        _, errors = self.process.communicate(timeout=200)
        lines = [line for line in errors.splitlines() if "Warning" not in line and not line.startswith("  ")]
        assert self.process.returncode == 2 and "Traceback" not in errors, errors
        assert len(lines) == 1 and lines[0].startswith("error: "), errors
        return lines[0]

    def step(self):
        """The step of the last checkpoint."""
        return torch.load(self.last, weights_only=True)["global_step"]


def remove(path):
    path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[:100])


def replace(path):
    Image.new("RGB", (30, 20)).save(path)


@pytest.mark.parametrize(
    ("spoil", "workers", "message"),
    [
        pytest.param(remove, 0, "image is missing", marks=pytest.mark.slow),
        pytest.param(truncate, 0, "image cannot be decoded", marks=pytest.mark.slow),
        pytest.param(replace, 0, "image is 20 × 30 pixels, its annotation says 64 × 128", marks=pytest.mark.slow),
        (remove, 1, "image is missing"),
    ],
)
def test_an_image_that_changes_during_the_run_is_named_and_the_run_goes_on_when_it_is_back(
    source, tmp_path, spoil, workers, message
):
    path = next((source / "leftImg8bit" / "train").rglob("*.png"))
    kept = shutil.copy2(path, tmp_path / "kept.png")
    training = Training(source, tmp_path / "out", f"data.num_workers={workers}")
    training.wait_for("step 4/")  # an epoch of three is finished
    spoil(path)
    assert training.error().startswith(f"error: {path}: {message}")
    step = training.step()
    assert step >= 3
    shutil.copy2(kept, path)
    again = Training(source, tmp_path / "out")
    again.wait_for("resuming from")
    again.wait_for(f"step {step + 1}/")
    again.process.kill()
    again.process.communicate()


@pytest.mark.slow
def test_annotations_that_change_between_two_starts_are_named(source, tmp_path):
    training = Training(source, tmp_path / "out")
    training.wait_for("step 4/")
    training.process.kill()
    training.process.communicate()
    path = next((source / "gtFine" / "train").rglob("*_polygons.json"))
    path.write_text(path.read_text().replace('"car"', '"truck"').replace('"person"', '"rider"'))
    again = Training(source, tmp_path / "out")
    assert again.error().startswith(f"error: {source}/gtFine/train: has changed since this run began; put back")


def test_a_fingerprint_is_of_content_and_names(source, tmp_path):
    folder, file = source / "leftImg8bit" / "train", source / "face_boxes_train.json"
    before = fingerprint(folder), fingerprint(file), fingerprint(tmp_path / "nowhere")
    moved = shutil.copytree(source, tmp_path / "moved")
    assert fingerprint(moved / "leftImg8bit" / "train") == before[0]
    file.write_text(file.read_text().replace("1", "2"))
    image = next(folder.rglob("*.png"))
    truncate(image)
    truncated = fingerprint(folder)
    image.unlink()
    assert len({*before, fingerprint(file), truncated, fingerprint(folder)}) == 6
    polygons = next((source / "gtFine" / "train").rglob("*_polygons.json"))
    annotations = fingerprint(source / "gtFine" / "train")
    polygons.write_text(polygons.read_text().replace("1", "2"))
    assert fingerprint(source / "gtFine" / "train") != annotations


def test_a_killed_worker_is_named(source, tmp_path):
    training = Training(source, tmp_path / "out", "data.num_workers=1")
    training.wait_for("step 4/")
    for child in psutil.Process(training.process.pid).children():
        if "resource_tracker" not in " ".join(child.cmdline()):
            child.send_signal(signal.SIGKILL)
    assert re.match(r"error: a process that loads images was killed .* checkpoint in .*seed0", training.error())
    assert training.step() >= 3


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset"), EOFError(), FileNotFoundError(2, "no", "/x")])
def test_a_worker_killed_while_it_hands_a_batch_over_is_named(tmp_path, error):
    code = compile("raise error", "lib/python3.11/multiprocessing/resource_sharer.py", "exec")
    before = signal.getsignal(signal.SIGCHLD)
    with pytest.raises(UserError, match="a process that loads images was killed"), naming_mishaps(tmp_path):
        exec(code, {"error": error})
    signal.signal(signal.SIGCHLD, before)


def test_a_full_disk_is_named_and_the_last_checkpoint_stays(source, tmp_path):
    """The limit on a file's size comes down once a checkpoint is there."""
    training = Training(source, tmp_path / "out", preexec_fn=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN))
    training.wait_for("step 4/")
    resource.prlimit(training.process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    assert re.match(r"error: output_dir: .*seed0 cannot be written: File too large; with room", training.error())
    assert training.step() >= 3
    assert not list(training.last.parent.glob(".*")), "nothing half is left"


def test_a_removed_output_folder_is_named(source, tmp_path):
    training = Training(source, tmp_path / "out")
    training.wait_for("step 4/")
    training.folder.rename(tmp_path / "removed")  # at once, as no rm -r is
    assert training.error() == f"error: output_dir: {training.folder} was removed during the run"
    assert not training.folder.exists()


@pytest.mark.slow
def test_a_full_disk_is_named_on_a_real_one(source, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        training = Training(source, disk / "out")
        training.wait_for("step 4/")
        with pytest.raises(OSError, match="No space left"), (disk / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        assert "cannot be written: No space left on device" in training.error()
        assert training.step() >= 3
        (disk / "filler").unlink()
        again = Training(source, disk / "out")
        again.wait_for("resuming from")
        again.wait_for("step ")
        again.process.kill()
        again.process.communicate()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_copy_whose_folder_is_removed_is_named(source, tmp_path):
    output = tmp_path / "copy"
    command = [sys.executable, "anonymize.py", "--config", "configs/quickstart.yaml", f"data.root={source}"]
    command += ["data.streetscenes=null", f"data.index_dir={tmp_path / 'index'}", "condition=body/blur"]
    stop = "import anonymize, shutil; import datamodules.copying as c; old = c.Copier.__call__\n"
    stop += f"def late(self, places):\n    shutil.rmtree({str(output)!r}, True); return old(self, places)\n"
    stop += "c.Copier.__call__ = late; anonymize.main()"
    command = [command[0], "-c", stop, *command[2:], f"output={output}", "workers=0"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert process.returncode == 2
    assert process.stderr == f"error: output: {output} cannot be written: No such file or directory\n"


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "checkpoints" / "last.ckpt"
    CheckpointIO().save_checkpoint({"step": 1}, path)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(lightning_modules.mishaps.os, "fsync", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device"), naming_mishaps(tmp_path):
        CheckpointIO().save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(errno.EACCES, "no"), FileNotFoundError(2, "x", "/x")])
def test_a_bug_keeps_its_traceback(tmp_path, error):
    with pytest.raises(type(error)) as raised, naming_mishaps(tmp_path / "gone"):
        raise error
    assert raised.value is error


def test_a_mistake_that_a_worker_found_is_one_line(capsys):
    @script
    def main():
        raise UserError('Caught UserError in worker 0.\nTraceback:\n  File "x"\nerrors.UserError: a.png: is missing\n')

    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2 and capsys.readouterr().err == "error: a.png: is missing\n"
