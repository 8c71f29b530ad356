"""Results to runs, from files and from W&B."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from synthetic_runs import run, write

from configs import load_config
from errors import UserError
from lightning_modules.results import write_results
from reporting.results import collect, collect_wandb

AP = "val/segm/AP"
GENERATOR = {"dataset": "d", "region": "body", "seed": 0, "metrics": {"val/fid": 0.1}, "config": {"name": "g"}}
BESIDE = (
    *("steps", "images_per_step", "anonymized_regions", "generators", "copy"),
    *("device", "wall_time_s", "versions", "commit"),
)
CELLS = [(condition, seed) for condition in ("body/blur", "original") for seed in (0, 1, 2)]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder of a few runs' results, written by what train.py writes them with."""
    folder = tmp_path_factory.mktemp("study")
    for condition, seed in CELLS:
        config = load_config("configs/quickstart.yaml", [f"condition={condition}", f"seed={seed}"])
        measured = {
            "metrics": {AP: 20.0 + seed / 3, "val/segm/AP_car": 40.0, "val/bbox/AP": 30.0},
            "best": {AP: 99.0},
            "steps": 340,
            "images_per_step": 8,
            "anonymized_regions": 1653,
            "generators": {"body": "people.safetensors@0123456789ab"},
            "copy": {"folder": "data/copies/body-blur", "sha256": "f54005a7", "images": 400},
            "device": "cpu (x86_64, 1 threads)",
            "wall_time_s": 263.2,
            "commit": "0" * 40,
        }
        path = folder / f"quickstart-{condition.replace('/', '-')}-seed{seed}"
        path.mkdir()
        write_results(path, config, measured)
    return folder


def test_a_run_is_read_as_it_was_written(study):
    path = study / "quickstart-body-blur-seed1/results.json"
    ((read,), problems) = collect([path])
    content = json.loads(path.read_text())
    assert problems == []
    assert (read.path, read.name, read.condition, read.region, read.method) == (
        path,
        "quickstart",
        "body/blur",
        "body",
        "blur",
    )
    for key in ("dataset", "seed", "metrics", "config", *BESIDE):
        assert getattr(read, key) == content[key]


def test_folders_are_searched(tmp_path):
    runs = [run(c, s, {AP: 3.0}) for c in ("body/blur", "original") for s in (0, 1)]
    for r in runs:
        write(r, tmp_path / "a" / "b")
    found, problems = collect([tmp_path])
    assert ([(r.condition, r.seed) for r in found], problems) == ([(r.condition, r.seed) for r in runs], [])
    assert collect([tmp_path / "a/b" / runs[0].path])[0] == found[:1]


def test_what_has_no_ground_truth_is_missing(tmp_path):
    write(run("original", 0, {AP: 3.0, "val/segm/AP_train": float("nan")}), tmp_path)
    assert collect([tmp_path])[0][0].metrics == {AP: 3.0}


def test_generators_are_passed_over(tmp_path):
    (tmp_path / "generator").mkdir()
    (tmp_path / "generator/results.json").write_text(json.dumps(GENERATOR))
    with pytest.raises(UserError, match="no finished training of a detector is in "):
        collect([tmp_path])
    write(run("original", 0, {AP: 3.0}), tmp_path)
    found, problems = collect([tmp_path])
    assert (len(found), problems) == (1, [])


def without(key):
    content = {"dataset": "d", "condition": "original", "seed": 0, "metrics": {AP: 3.0}, "config": {"name": "e"}}
    return json.dumps({k: v for k, v in content.items() if k != key})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"dataset": ', "Expecting value"),
        ("", "Expecting value"),
        ("[1]", "list indices"),
        ("null", "not iterable"),
        (b"\xff\xfe\x00", "can't decode"),
        (without("config"), "it has no 'config'"),
        (without("seed"), "it has no 'seed'"),
        (without("condition"), "it has no 'condition'"),
        ('{"condition": "body/blurr"}', r"unknown 'body/blurr', did you mean 'body/blur'\?"),
        ('{"condition": "original", "metrics": {"val/segm/AP": null}}', "NoneType"),
        ('{"condition": "original", "metrics": {"val/segm/AP": NaN}}', "it has no AP"),
    ],
)
def test_a_broken_file_is_named_and_the_rest_is_read(tmp_path, content, said):
    broken = tmp_path / "broken/results.json"
    broken.parent.mkdir()
    broken.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=said):
        collect([tmp_path])
    write(run("original", 0, {AP: 3.0}), tmp_path)
    found, (problem,) = collect([tmp_path])
    assert [r.metrics for r in found] == [{AP: 3.0}]
    assert problem.startswith(f"{broken}: not a results.json of train.py: ") and problem.endswith("; left out")


def test_a_place_without_results_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        collect([tmp_path / "nowhere"])
    with pytest.raises(UserError, match=r"holds no results\.json"):
        collect([tmp_path])


class Api:
    """Stands in for wandb.Api: the runs of a project, one sweep of which is called ``s1``."""

    def __init__(self, study):
        self.all = [as_wandb(path) for path in sorted(study.rglob("results.json"))]
        self.asked = []

    def runs(self, path, filters, lazy):
        self.asked.append(path)
        return [r for r in self.all if filters.get("sweep") in (None, r.sweep)]


def as_wandb(path):
    """A run as train.py and W&B leave it: the cell beside the config, media and W&B's own in the summary."""
    content = json.loads(path.read_text())
    cell = {key: content[key] for key in ("dataset", "condition", "region", "method")}
    cell["cell"] = f"configs/quickstart.yaml:{content['condition']}"  # a parameter of sweeps/all.yaml
    summary = {
        **content["metrics"],
        "val/segm/AP_unseen": "NaN",
        "best/val/segm/AP": 99.0,
        "images/val": {"_type": "images/separated", "count": 1},
        "per_class/segm": {"_type": "table-file", "nrows": 8},
        "_wandb": {"runtime": 263},
        "trainer/global_step": content["steps"],
        "results": {key: content[key] for key in BESIDE},
    }
    sweep = "s1" if content["condition"] == "original" else None
    return SimpleNamespace(
        id=path.parent.name, state="finished", config=content["config"] | cell, summary_metrics=summary, sweep=sweep
    )


@pytest.fixture
def api(study, monkeypatch):
    api = Api(study)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(Api=lambda: api, login=lambda **_: True))
    return api


def test_wandb_has_the_same_runs_as_the_files(study, api):
    runs, problems = collect_wandb("team/anonbench")
    expected, _ = collect([study])
    assert (api.asked, problems, len(runs)) == (["team/anonbench"], [], 6)
    for got, wanted in zip(runs, expected, strict=True):
        assert got.path == Path("team/anonbench/runs", wanted.path.parent.name)
        assert got == type(got)(**{**vars(wanted), "path": got.path})


def test_a_sweep_has_its_own_runs_alone(api):
    runs, problems = collect_wandb("team/anonbench/s1")
    assert ([(r.condition, r.seed) for r in runs], problems) == ([("original", s) for s in range(3)], [])
    with pytest.raises(UserError, match=r"no finished training of a detector is in W&B's team/anonbench/s2"):
        collect_wandb("team/anonbench/s2")


def test_what_has_not_finished_or_is_no_training_is_left_out(api):
    api.all[0].state, api.all[1].state = "running", "crashed"
    del api.all[2].summary_metrics[AP], api.all[2].summary_metrics["val/bbox/AP"]
    api.all.append(SimpleNamespace(id="g", state="finished", config={"generator": {}}, summary_metrics={}, sweep=None))
    runs, problems = collect_wandb("team/anonbench")
    assert len(runs) == 3
    assert problems == [
        "team/anonbench/runs/quickstart-body-blur-seed2: not a run of train.py: it has no AP; left out",
        "team/anonbench: 2 runs have not finished; left out",
    ]


def test_runs_that_do_not_say_what_they_ran_on_are_compared_all_the_same(api):
    del api.all[0].summary_metrics["results"]
    first = collect_wandb("team/anonbench")[0][0]
    assert (first.metrics[AP] > 0, first.steps, first.versions, first.copy) == (True, None, {}, None)


@pytest.mark.parametrize("path", ["anonbench", "a/b/c/d", "/anonbench", "a//s"])
def test_a_path_of_another_form_is_a_mistake(api, path):
    with pytest.raises(UserError, match="is not of the form ENTITY/PROJECT or ENTITY/PROJECT/SWEEP"):
        collect_wandb(path)


def test_wandb_that_does_not_answer_is_a_mistake(monkeypatch):
    def refuse():
        raise ConnectionError("No API key configured. Use `wandb login` to log in.")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(Api=refuse, login=lambda **_: True))
    with pytest.raises(UserError, match="W&B's team/anonbench cannot be read: No API key configured"):
        collect_wandb("team/anonbench")
