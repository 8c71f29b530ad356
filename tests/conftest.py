"""Data that several tests read."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings

# On a busy machine a slow example is no failure.
settings.register_profile("anonbench", deadline=None)
settings.load_profile("anonbench")

ROOT = Path(__file__).parents[1]
# Real photographs with COCO's annotations; they lie beside the repository, not in it.
COCO_SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "coco_sample"


# Long ones first, so that two workers end at the same time.
FIRST = {
    "test_wandb.py",
    "test_distributed.py",
    "test_train.py",
    "test_study.py",
    "test_notebooks.py",
    "test_mishaps.py",
}


def pytest_collection_modifyitems(items):
    """Order the tests."""
    items.sort(key=lambda item: item.path.name not in FIRST)


@pytest.fixture(scope="session")
def coco_sample():
    if not COCO_SAMPLE.is_dir():
        pytest.skip("no COCO sample beside the repository")
    return COCO_SAMPLE


@pytest.fixture(scope="session")
def streetscenes(tmp_path_factory):
    """A few small StreetScenes in each layout: layout -> folder."""
    from datamodules.streetscenes import write

    root = tmp_path_factory.mktemp("streetscenes")
    layouts = ("cityscapes", "coco", "bdd100k")
    return {layout: write(layout, root / layout, train=6, val=3, size=(64, 128), workers=0) for layout in layouts}


@pytest.fixture
def inside(monkeypatch, capsys):
    """Run a script's main in this process, which has imported torch already, without W&B: arguments -> how it ended."""
    import torch

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the scripts that tests start: sums in the same order

    def run(main, *arguments):
        monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return SimpleNamespace(returncode=end.value.code, stdout=(said := capsys.readouterr()).out, stderr=said.err)

    yield run
    torch.set_num_threads(threads)
