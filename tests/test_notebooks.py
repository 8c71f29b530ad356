"""The notebooks run from end to end with the interpreter of the tests, and are committed small."""

import re
from pathlib import Path

import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LARGEST = 500_000  # bytes of a notebook: a picture or two


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Run a notebook in an empty folder; what it leaves there is listed beside its cells."""
    write_kernel_spec(tmp_path / "jupyter" / "kernels" / "python3")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # other tests run beside it
    monkeypatch.delenv("MPLBACKEND", raising=False)

    def run(path):
        folder = tmp_path / "here"
        folder.mkdir()
        notebook = nbformat.read(path, as_version=4)
        fewer = "import anonymization.methods.latent_optimization as search; search.STEPS = 3"  # as many take minutes
        notebook.cells.insert(0, nbformat.v4.new_code_cell(fewer))
        # A cell that fails ends this with its traceback.
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
        return [cell for cell in notebook.cells if cell.cell_type == "code"], list(folder.iterdir())

    return run


def pictures(cells):
    return [o for cell in cells for o in cell.outputs if "image/png" in o.get("data", {})]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(execute, path):
    cells, left = execute(path)
    assert len(pictures(cells)) >= 2
    assert not left


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_small(path):
    """With a picture or two, and no word about the machine that it ran on."""
    assert path.stat().st_size < LARGEST
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(pictures(cells)) <= 2
    outputs = [o for cell in cells for o in cell.outputs]
    text = str([o.get("text", "") + str(o.get("data", {}).get("text/plain", "")) for o in outputs])
    assert not re.search("/(home|root|tmp|Users|work)/", text)
