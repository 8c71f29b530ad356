"""Results to tables."""

import json

import numpy as np
import pytest

from errors import UserError
from reporting.results import Run, collect
from reporting.tables import as_markdown, summarize

AP, PERSON = "val/segm/AP", "val/segm/AP_person"


def run(condition, seed, ap, person=None):
    metrics = {AP: ap} | ({} if person is None else {PERSON: person})
    return Run("somewhere", "d", condition, seed, metrics)


def test_mean_error_and_delta_are_numpys():
    rng = np.random.default_rng(0)
    values = {condition: rng.uniform(10, 60, 4) for condition in ("original", "body/blur")}
    runs = [run(c, s, v) for c, vs in values.items() for s, v in enumerate(vs)]
    original, blur = summarize(runs, [AP])
    assert (original.condition, original.runs, original.cells[AP].delta) == ("original", 4, None)
    cell, expected = blur.cells[AP], values["body/blur"]
    assert cell.mean == pytest.approx(expected.mean())
    assert cell.stderr == pytest.approx(expected.std(ddof=1) / 2)
    assert cell.delta == pytest.approx(expected.mean() - values["original"].mean())


def test_markdown_shows_what_is_missing():
    rows = summarize([run("body/blur", 0, 20.0), run("original", 0, 30.04, 10.0)], [AP, PERSON])
    assert as_markdown(rows, [AP, PERSON]).splitlines() == [
        "| condition | runs | segm AP | segm AP_person |",
        "| --- | ---: | ---: | ---: |",
        "| original | 1 | 30.0 | 10.0 |",
        "| body/blur | 1 | 20.0 (-10.0) | missing |",
    ]


def test_without_original_there_is_no_delta():
    (row,) = summarize([run("body/blur", 0, 20.0), run("body/blur", 1, 22.0)], [AP])
    assert str(row.cells[AP]) == "21.0 ± 1.0"


def test_results_are_found_and_mistakes_named(tmp_path):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    content = {"dataset": "d", "condition": "original", "seed": 0, "metrics": {AP: 3.0}, "more": 1}
    (folder / "results.json").write_text(json.dumps(content))
    assert [r.metrics for r in collect([tmp_path])] == [{AP: 3.0}]
    (folder / "results.json").write_text('{"dataset": ')
    with pytest.raises(UserError, match=r"results\.json: not a results\.json of train\.py"):
        collect([tmp_path])
    with pytest.raises(UserError, match="does not exist"):
        collect([tmp_path / "nowhere"])
    (folder / "results.json").unlink()
    with pytest.raises(UserError, match=r"holds no results\.json"):
        collect([tmp_path])
