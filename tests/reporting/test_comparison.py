"""Runs to comparisons, and what is wrong with them."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_runs import run, runs_of_paper

import reporting.comparison
from configs import load_config
from reporting.comparison import compare
from reporting.paper import find_table, paper_tables
from reporting.significance import Interval

AP, PERSON = "val/segm/AP", "val/segm/AP_person"
BOTH = ("original", "body/blur")


def one(runs):
    (comparison,) = compare(runs)
    return comparison


def test_mean_error_and_delta_are_numpys():
    rng = np.random.default_rng(0)
    values = {condition: rng.uniform(10, 60, 4) for condition in BOTH}
    original, blur = one([run(c, s, {AP: v}) for c, vs in values.items() for s, v in enumerate(vs)]).rows
    assert (original.condition, original.runs, original.cells[AP].delta) == ("original", 4, None)
    cell, expected = blur.cells[AP], values["body/blur"]
    assert cell.mean == pytest.approx(expected.mean())
    assert cell.stderr == pytest.approx(expected.std(ddof=1) / 2)
    assert cell.delta == pytest.approx(expected.mean() - values["original"].mean())


def test_one_run_has_no_error_and_without_original_there_is_no_delta():
    comparison = one([run("body/blur", 0, {AP: 20.0})])
    assert (comparison.rows[0].cells[AP].stderr, comparison.rows[0].cells[AP].delta) == (None, None)
    assert comparison.problems == ["original: has no run, so there are no differences to it"]


def test_an_experiment_of_a_dataset_has_a_comparison():
    cells = [("streets", "small"), ("streets", "large"), ("cityscapes", "cityscapes")]
    comparisons = compare([run(c, 0, {AP: 1.0}, name, dataset) for dataset, name in cells for c in BOTH])
    assert [c.name for c in comparisons] == ["cityscapes", "streets-large", "streets-small"]
    assert [(c.dataset, c.experiment, len(c.runs), c.problems) for c in comparisons] == [
        ("cityscapes", "cityscapes", 2, []),
        ("streets", "large", 2, []),
        ("streets", "small", 2, []),
    ]


def test_rows_are_in_the_order_of_conditions_and_of_the_paper_all_are_there():
    conditions = ("body/pixelate", "face/blur", "original")
    assert [r.condition for r in one([run(c, 0, {AP: 1.0}) for c in conditions]).rows] == [*reversed(conditions)]
    table = paper_tables()[4]
    runs = [r for r in runs_of_paper(table) if r.condition == "body/blur"]
    pixelate = [run("body/pixelate", 0, r.metrics, r.name, r.dataset, config=r.config) for r in runs[:1]]
    rows = one(runs + pixelate).rows
    assert [(r.condition, r.region, r.method, r.runs, len(r.cells)) for r in rows] == [
        ("original", "none", "original", 0, 0),
        ("body/blur", "body", "blur", 2, len(table.metrics)),
        ("body/mask_out", "body", "mask_out", 0, 0),
        ("body/pixelate", "body", "pixelate", 1, len(table.metrics)),
    ]


@given(st.lists(st.floats(0, 100), min_size=4, max_size=4))
def test_the_best_of_a_region_are_all_that_print_highest(values):
    conditions = ("original", "face/blur", "face/mask_out", "body/blur")
    runs = [run(c, 0, {AP: v}) for c, v in zip(conditions, values, strict=True)]
    cells = {row.condition: row.cells[AP] for row in one(runs).rows}
    faces = [f"{value:.1f}" for value in values[1:3]]
    highest = max(faces, key=float)
    assert [cells[c].best for c in conditions] == [False, *(face == highest for face in faces), False]


@given(st.integers(300, 420), st.integers(0, 20), st.floats(-0.049, 0.049))
def test_overlap_is_that_of_the_printed_intervals(tenths, error, unprinted):
    """In whole tenths of a percent, in which sums are exact; what is not printed changes nothing."""
    table = paper_tables()[0]
    runs = [
        replace(r, metrics={AP: (tenths + side * error) / 10 + unprinted})
        for r, side in zip([r for r in runs_of_paper(table) if r.condition == "body/blur"], (-1, 1), strict=True)
    ]
    published = one(runs).rows[[*table.rows].index("body/blur")].cells[AP].published
    ours, papers = (tenths - error, tenths + error), (314 - 2, 314 + 2)  # table 1: 31.4 ± 0.2
    assert published.overlaps == (max(ours[0], papers[0]) <= min(ours[1], papers[1]))
    assert published.difference == pytest.approx(tenths / 10 + unprinted - 31.4)
    assert (published.mean, published.stderr, published.delta) == (31.4, 0.2, -5.3)


def test_one_run_neither_overlaps_the_paper_nor_lies_apart():
    (first, _) = (r for r in runs_of_paper(paper_tables()[0]) if r.condition == "original")
    assert one([first]).rows[0].cells[AP].published.overlaps is None


def test_intervals_are_of_the_condition_against_original(monkeypatch):
    asked = []

    def intervals(runs, originals, metrics):
        asked.append(([(r.condition, r.seed) for r in runs], [r.seed for r in originals], metrics))
        return {AP: Interval(-2.0, -1.0, "seeds")}

    monkeypatch.setattr(reporting.comparison, "delta_intervals", intervals)
    original, blur = one([run(c, s, {AP: 1.0, PERSON: 2.0}) for c in BOTH for s in (0, 1)]).rows
    assert asked == [([("body/blur", 0), ("body/blur", 1)], [0, 1], [AP, PERSON])]
    assert [original.cells[AP].interval, blur.cells[AP].interval, blur.cells[PERSON].interval] == [
        None,
        Interval(-2.0, -1.0, "seeds"),
        None,
    ]


@pytest.mark.parametrize(
    ("metrics", "columns"),
    [
        # as Cityscapes' own evaluation names them, and boxes beside
        (
            "bbox/AP bbox/AP_car segm/AP_truck segm/AP50 segm/AP segm/AP50_car segm/AP_car segm/AP_bus segm/AP_person",
            "segm/AP segm/AP50 segm/AP_person segm/AP_bus segm/AP_car segm/AP_truck",
        ),
        # as COCO's: sizes are no classes
        (
            "segm/AP segm/AP50 segm/AP75 segm/AP_s segm/AP_m segm/AP_l segm/AP_zebra segm/AP_rider segm/AP_pedestrian",
            "segm/AP segm/AP50 segm/AP_pedestrian segm/AP_rider segm/AP_zebra",
        ),
        ("bbox/AP bbox/AP50 bbox/AP_m bbox/AP_person bbox/AP_car", "bbox/AP bbox/AP50 bbox/AP_person bbox/AP_car"),
        (
            "keypoints/AP bbox/AP bbox/AP_person bbox/AP50 keypoints/AP_l keypoints/AP75 bbox/AP_s",
            "bbox/AP bbox/AP50 bbox/AP_s keypoints/AP keypoints/AP75 keypoints/AP_l",
        ),
    ],
)
def test_columns_beyond_the_paper_are_in_its_form(metrics, columns):
    values = {f"val/{name}": 1.0 for name in metrics.split()}
    assert one([run("original", 0, values)]).metrics == [f"val/{name}" for name in columns.split()]


@pytest.mark.parametrize(
    ("file", "overrides", "number"),
    [
        ("cityscapes", [], 1),
        ("coco_keypoints", [], 2),
        ("bdd100k", [], 3),
        ("coco_instances", [], 4),
        ("cityscapes_no_person", [], 5),
        ("cityscapes", ["data.ignore_classes=[person]"], 5),
        ("cityscapes", ["data.ignore_classes=[car]"], None),
        ("cityscapes", ["data.name=mine"], None),
        ("cityscapes", ["data.layout=bdd100k"], None),
        ("cityscapes", ["data.val_split=train"], None),
        ("cityscapes", ["data.streetscenes.train=4"], None),
        ("quickstart", [], None),
        ("streetscenes_keypoints", [], None),
    ],
)
def test_a_dataset_and_task_of_the_paper_is_known_by_its_config(file, overrides, number):
    table = find_table(asdict(load_config(f"configs/{file}.yaml", overrides)))
    assert (table and table.number) == number


def test_the_same_cell_twice_is_counted_once_and_named():
    runs = [run(c, 0, {AP: 1.0}, path=Path(c, "results.json")) for c in BOTH]
    runs.append(run("original", 0, {AP: 3.0}, path=Path("again/results.json")))
    comparison = one(runs)
    assert comparison.problems == [
        "original seed 0: is there with different results; original/results.json is used, left out is "
        "again/results.json"
    ]
    assert comparison.runs == runs[:2] and comparison.rows[0].cells[AP].mean == 1.0


def test_a_copy_of_results_is_no_second_run():
    runs = [run(c, 0, {AP: 1.0}, path=Path(f"{folder}/{c}")) for folder in ("a", "b") for c in BOTH]
    comparison = one(runs)
    assert ([r.runs for r in comparison.rows], comparison.problems, comparison.runs) == ([1, 1], [], runs[:2])


def settings(condition, seed, **config):
    config = {"optimizer": {"lr": 0.02}, "trainer": {"max_steps": 10}, **config}
    return run(condition, seed, {AP: 1.0}, config=config, steps=config["trainer"].get("max_steps"))


def test_different_settings_are_named_with_their_runs():
    runs = [settings(c, s) for c in BOTH for s in range(3)]
    runs[5] = settings("body/blur", 2, optimizer={"lr": 0.01}, trainer={"max_steps": 20, "precision": "16-mixed"})
    assert one(runs).problems == [
        "settings differ: optimizer.lr is 0.02 in 5 runs; 0.01 in body/blur seed 2",
        "settings differ: steps is 10 in 5 runs; 20 in body/blur seed 2",
        "settings differ: trainer.max_steps is 10 in 5 runs; 20 in body/blur seed 2",
        "settings differ: trainer.precision is not set in 5 runs; 16-mixed in body/blur seed 2",
    ]


@pytest.mark.parametrize(
    "config",
    [
        {"output_dir": "elsewhere"},
        {"wandb": {"mode": "offline"}},
        {"data": {"name": "d", "num_workers": 7, "index_dir": "elsewhere"}},
        {"anonymization": {"copy": "data/copies"}},
        {"trainer": {"max_steps": 10, "accelerator": "gpu", "enable_progress_bar": False}},
        {"generators": {"body": "other.safetensors"}},  # of conditions that use none
    ],
)
def test_settings_that_change_nothing_may_differ(config):
    assert one([settings("original", 0), settings("body/blur", 0, **config)]).problems == []


def test_settings_of_the_anonymization_are_compared_among_the_runs_that_have_it():
    def anonymized(condition, seed, generator):
        return settings(condition, seed, anonymization={"seed": generator}, generators={"body": f"{generator}.pt"})

    runs = [anonymized("original", 0, 5), anonymized("body/blur", 0, 0), anonymized("body/realistic", 0, 0)]
    assert one(runs).problems == []
    assert one([*runs, anonymized("body/realistic", 1, 1)]).problems == [
        "settings differ: anonymization.seed is 0 in body/blur seed 0, body/realistic seed 0; "
        "1 in body/realistic seed 1",
        "settings differ: generators.body is 0.pt in body/realistic seed 0; 1.pt in body/realistic seed 1",
    ]


def test_many_classes_are_left_to_other_files():
    names = ["val/segm/AP", "val/segm/AP50", "val/segm/AP_person", *(f"val/segm/AP_{n}" for n in range(38))]
    assert one([run("original", 0, dict.fromkeys(names, 1.0))]).metrics == names[:3]
    assert set(one([run("original", 0, dict.fromkeys(names[:-1], 1.0))]).metrics) == set(names[:-1])


def test_runs_that_anonymized_nobody_are_named():
    runs = [run(c, s, {AP: 1.0}, anonymized_regions=n) for c in BOTH for s, n in ((0, 0), (1, 9))]
    assert one(runs).problems == [
        "body/blur: no region was anonymized in body/blur seed 0, trained on originals therefore"
    ]


def test_other_people_under_one_name_are_named():
    def anonymized(condition, seed, generator, copy, of_copy=0):
        config = {"anonymization": {"seed": of_copy}}
        people = {"generators": {"body": f"people@{generator}"}, "copy": {"folder": "copy", "sha256": copy}}
        return run(condition, seed, {AP: 1.0}, config=config, **people)

    runs = [run("original", 0, {AP: 1.0}), anonymized("body/realistic", 0, 0, "a")]
    assert (
        one([*runs, anonymized("body/realistic", 1, 0, "a"), anonymized("body/realistic_hm", 0, 0, "b")]).problems == []
    )
    assert "copies" not in " ".join(one([*runs, anonymized("body/realistic", 1, 0, "b", of_copy=1)]).problems)
    assert one([*runs, anonymized("body/realistic", 1, 1, "b")]).problems == [
        "generators differ: body is people@0 in body/realistic seed 0; people@1 in body/realistic seed 1",
        "copies differ: body/realistic is a in body/realistic seed 0; b in body/realistic seed 1",
    ]


def test_different_versions_are_named():
    versions = [{"torch": "2.14.1"}, {"torch": "2.13.0"}, {}]
    runs = [run(c, 0, {AP: 1.0}, versions=v) for c, v in zip((*BOTH, "face/blur"), versions, strict=True)]
    assert one(runs).problems == ["versions differ: torch is 2.14.1 in original seed 0; 2.13.0 in body/blur seed 0"]
    commits = [run(c, 0, {AP: 1.0}, commit=commit) for c, commit in zip(BOTH, ("abc", "abc-dirty"), strict=True)]
    assert one(commits).problems == [
        "versions differ: commit of the code is abc in original seed 0; abc-dirty in body/blur seed 0"
    ]


def test_a_metric_that_some_runs_lack_is_named():
    runs = [run("original", 0, {AP: 1.0, PERSON: 5.0}), run("original", 1, {AP: 2.0})]
    comparison = one(runs)
    assert comparison.problems == ["original: 1 of 2 runs have no val/segm/AP_person; its mean is of the others"]
    assert (comparison.rows[0].cells[PERSON].mean, comparison.rows[0].cells[PERSON].stderr) == (5.0, None)


def test_another_model_than_the_papers_is_named():
    runs = [
        replace(r, config=r.config | {"model": {"name": "maskrcnn_small"}}) for r in runs_of_paper(paper_tables()[0])
    ]
    assert one(runs).problems == ["model.name is maskrcnn_small; table 1 of the paper is of maskrcnn_resnet50_fpn"]


def test_per_image_results_that_cannot_be_used_are_named(tmp_path):
    runs = [run(c, 0, {AP: 1.0}, path=tmp_path / c / "results.json") for c in BOTH]
    (tmp_path / "body/blur").mkdir(parents=True)
    (tmp_path / "body/blur/matches.npz").write_bytes(b"none")
    (problem,) = one(runs).problems
    assert str(tmp_path / "body/blur/matches.npz") in problem
