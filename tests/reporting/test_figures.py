"""Figures of comparisons: what is drawn where, for whom, and that it can be read."""

import csv
import json
from dataclasses import replace
from statistics import fmean

import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from errors import UserError
from reporting import figures
from reporting.colours import colour
from reporting.comparison import compare
from reporting.figures import (
    ap_over_training,
    delta_by_amount,
    delta_by_condition,
    delta_by_metric,
    delta_by_size,
    in_words,
    save_figure,
    utility_against_privacy,
    write_figures,
    write_overview,
)
from reporting.findings import read_audits, read_curve, regions_per_image
from reporting.results import Run

AP, PERSON, CAR = "val/segm/AP", "val/segm/AP_person", "val/segm/AP_car"
SIZES = ["val/bbox/AP_s", "val/bbox/AP_m", "val/bbox/AP_l"]
METRICS = [AP, PERSON, CAR, *SIZES]
VALUES = {  # of seeds 0, 1 and 2
    "original": [[30, 32, 34], [20, 22, 24], [40, 41, 45], [10, 10, 13], [20, 20, 23], [30, 30, 30]],
    "face/blur": [[29, 33, 31], [21, 19, 23], [40, 40, 43], [8, 9, 10], [20, 21, 22], [31, 30, 29]],
    "body/mask_out": [[25, 26, 24], [0, 1, 2], [38, 40, 42], [5, 6, 7], [9, 10, 11], [30, 31, 35]],
}


def make_runs(folder, dataset="streetscenes", **changes):
    config = {"name": "quickstart", "data": {"name": dataset, "layout": "cityscapes", "root": "here/streets"}}
    runs = []
    for condition, values in VALUES.items():
        region, _, method = condition.rpartition("/")
        for seed in range(3):
            path = folder / f"{condition.replace('/', '-')}-seed{seed}" / "results.json"
            metrics = {metric: float(of[seed]) for metric, of in zip(METRICS, values, strict=True)}
            regions = {"": 0, "face": 2000, "body": 6000}[region]
            about = {"region": region or "none", "method": method, "config": config, "anonymized_regions": regions}
            runs.append(
                Run(
                    path,
                    "quickstart",
                    dataset,
                    condition,
                    seed=seed,
                    metrics=metrics,
                    steps=500,
                    images_per_step=4,
                    **about,
                )
            )
    return [replace(run, **changes) for run in runs]


@pytest.fixture
def comparison(tmp_path):
    return compare(make_runs(tmp_path))[0]


def mean(condition, metric):
    return fmean(VALUES[condition][METRICS.index(metric)])


def delta(condition, metric):
    return mean(condition, metric) - mean("original", metric)


def marks(figure):
    """What is marked, in the order of drawing: colour, x, y."""
    lines = [line for line in figure.axes[0].lines if line.get_marker() in tuple("dos") and len(line.get_xdata())]
    return [(to_hex(line.get_color()), float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines]


def notes(figure):
    return " ".join(" ".join(text.get_text() for text in figure.texts).split())


def whiskers(figure):
    """The ends of the whiskers by colour, one for each."""
    return {to_hex(c.get_color()[0]): c.get_segments()[0].tolist() for c in figure.axes[0].collections}


def test_delta_by_condition(comparison):
    """A row for each condition, at the difference of the means, with the interval of the table."""
    figure = delta_by_condition(comparison)
    conditions = ["face/blur", "body/mask_out"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == conditions
    assert marks(figure) == [(colour(c), pytest.approx(delta(c, AP)), y) for y, c in enumerate(conditions)]
    for y, row in enumerate(comparison.rows[1:]):
        interval = row.cells[AP].interval
        assert whiskers(figure)[colour(row.condition)] == [[interval.low, y], [interval.high, y]]


def test_papers_deltas_stand_beside_ours(tmp_path):
    """Table 1: face/blur -0.3, body/mask_out -5.5."""
    (comparison,) = compare(make_runs(tmp_path, dataset="cityscapes"))
    assert comparison.paper is not None
    figure = delta_by_condition(comparison)
    ticks = [line for line in figure.axes[0].lines if line.get_marker() == "|"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in ticks] == [(-0.3, 0), (-5.5, 1)]
    assert "the paper's" in notes(figure)


def test_delta_by_metric(comparison):
    """A group for each column of the table, in it a line for each condition."""
    figure = delta_by_metric(comparison)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["AP", "AP person", "AP car"]
    found = marks(figure)
    expected = [(c, m) for m in (AP, PERSON, CAR) for c in ("face/blur", "body/mask_out")]
    assert [(c, x) for c, x, _ in found] == [(colour(c), pytest.approx(delta(c, m))) for c, m in expected]
    ys = [y for *_, y in found]
    assert ys == sorted(set(ys)) and max(figure.axes[0].get_ylim()) > ys[-1]


def test_delta_by_size(comparison):
    figure = delta_by_size(comparison)
    expected = [(c, m) for c in ("face/blur", "body/mask_out") for m in SIZES]
    found = marks(figure)
    assert [(c, y) for c, _, y in found] == [(colour(c), pytest.approx(delta(c, m))) for c, m in expected]
    assert [round(x) for _, x, _ in found] == [0, 1, 2] * 2
    assert [label.get_text().splitlines()[0] for label in figure.axes[0].get_xticklabels()] == [
        "small",
        "medium",
        "large",
    ]


def test_intervals_leave_room_for_other_sizes(tmp_path):
    """Large objects at 0, 100 and 0 of originals: their interval does not set the scale, and that is said."""
    runs = make_runs(tmp_path)
    assert "longer than shown" not in notes(delta_by_size(compare(runs)[0]))
    wild = [replace(r, metrics=r.metrics | {SIZES[2]: 100.0 * (r.seed == 1)}) for r in runs]
    figure = delta_by_size(compare(wild)[0])
    assert "longer than shown" in notes(figure)
    low, high = figure.axes[0].get_ylim()
    assert high - low < 60
    assert all(low < y < high for *_, y in marks(figure))


def write_log(run, version, rows):
    """A log as Lightning's CSVLogger writes it; metrics of validation have an epoch as well."""
    folder = run.path.parent / "csv" / f"version_{version}"
    folder.mkdir(parents=True)
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "final/segm/AP", "lr-AdamW", "step", AP])
        writer.writerow(["", "", "0.1", rows[0][0], ""])
        writer.writerows([epoch, "", "", step, value] for epoch, (step, value) in enumerate(rows))
        writer.writerow(["", "31.0", "", "0", ""])


def test_logs_of_an_interrupted_run_are_joined(comparison):
    """The second start goes on from step 250, so what came after is void; version 10 comes after version 2."""
    run = comparison.runs[0]
    assert read_curve(run, AP) == {}
    write_log(run, 1, [(99, 5.0), (199, 10.0), (260, 99.0), (299, 99.0)])
    write_log(run, 2, [(250, ""), (299, 15.0), (399, 99.0)])
    write_log(run, 10, [(350, ""), (399, 20.0), (499, 30.0)])
    assert read_curve(run, AP) == {99: 5.0, 199: 10.0, 299: 15.0, 399: 20.0, 499: 30.0, 500: 30.0}
    write_log(run, 11, [(500, 29.9)])  # of the last step too the result counts
    assert read_curve(run, AP)[500] == 30.0


def test_ap_over_training(comparison):
    """A thin line for each seed, and their mean where all have a value."""
    assert ap_over_training(comparison) is None
    for run in comparison.runs[:2]:
        write_log(run, 0, [(99, 10.0 + 2 * run.seed), (299 + run.seed, 20.0)])
    figure = ap_over_training(comparison)
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 1]
    assert {to_hex(line.get_color()) for line in lines} == {colour("original")}
    *seeds, average = [list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in lines]
    assert seeds == [[(99, 10), (299, 20), (500, 30)], [(99, 12), (300, 20), (500, 32)]]
    assert average == [(99, 11), (500, 31)]


def test_regions_per_image(comparison):
    """Of images anonymized in training: 500 steps of 4; of a copy: of its images."""
    run = comparison.runs[-1]
    assert regions_per_image(run) == 6000 / 2000
    assert regions_per_image(replace(run, images_per_step=None)) is None
    copy = {"folder": "copies/face-blur", "sha256": "own"}
    assert regions_per_image(replace(run, copy=copy | {"images": 2}, anonymized_regions=5)) == 2.5
    assert regions_per_image(replace(run, copy=copy)) is None
    assert regions_per_image(replace(run, anonymized_regions=None)) is None


def test_delta_by_amount(tmp_path, comparison):
    """Datasets from the most regions in an image to the fewest: 3 x 2, 3, 2 and 1."""
    assert delta_by_amount([comparison]) is None
    (other,) = compare(make_runs(tmp_path, dataset="busy", images_per_step=2))
    figure = delta_by_amount([comparison, other])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "busy-quickstart\nmask AP of person\n6.0 bodies an image",
        "streetscenes-quickstart\nmask AP of person\n3.0 bodies an image",
        "busy-quickstart\nmask AP of person\n2.0 faces an image",
        "streetscenes-quickstart\nmask AP of person\n1.0 faces an image",
    ]
    places = {(round(y), c): x for c, x, y in marks(figure)}
    assert places == {
        (y, colour(c)): pytest.approx(delta(c, PERSON))
        for y, c in enumerate(["body/mask_out", "body/mask_out", "face/blur", "face/blur"])
    }


def make_audit(condition, images, manifest="x"):
    """An audit of faces found inside regions: (before, after) of each image."""
    counts = [{"before": {"inside": b, "elsewhere": 7}, "after": {"inside": a, "elsewhere": 7}} for a, b in images]
    total = {w: {"inside": sum(c[w]["inside"] for c in counts), "elsewhere": 0} for w in ("before", "after")}
    per_image = {f"{i}.png": {**c, "found": []} for i, c in enumerate(counts)}
    about = {"condition": condition, "source": "/there/streets", "manifest_sha256": manifest}
    return {**about, **total, "per_image": per_image}


def test_utility_against_privacy(comparison):
    """At the share of faces that are still found, and people's AP; of originals all are."""
    assert utility_against_privacy(comparison, []) is None
    audits = [make_audit("face/blur", [(1, 2), (0, 2), (2, 4)]), make_audit("body/blur", [(1, 2)])]
    figure = utility_against_privacy(comparison, audits)
    expected = [("original", 100.0), ("face/blur", 37.5)]
    assert marks(figure) == [(colour(c), x, pytest.approx(mean(c, PERSON))) for c, x in expected]
    # Over images the share can be anything from 0 (the second one thrice) to 50 %.
    ends = [c.get_segments()[0] for c in figure.axes[0].collections if to_hex(c.get_color()[0]) == colour("face/blur")]
    (low, _), (high, _) = ends[1].tolist()
    assert low == pytest.approx(0, abs=1) and high == pytest.approx(50)
    (_, bottom), (_, top) = ends[0].tolist()
    assert (top + bottom) / 2 == pytest.approx(21) and (top - bottom) / 2 == pytest.approx(2 / 3**0.5)


def test_audit_is_of_the_copy_that_was_trained_on(tmp_path):
    audits = [make_audit("face/blur", [(0, 2)], "other"), make_audit("face/blur", [(1, 2)], "own")]
    (comparison,) = compare(make_runs(tmp_path, copy={"folder": "copies/face-blur", "sha256": "own"}))
    assert [x for _, x, _ in marks(utility_against_privacy(comparison, audits))] == [100, 50]
    assert utility_against_privacy(comparison, audits[:1]) is None


def test_audit_is_of_the_dataset_that_was_trained_on(comparison):
    audit = make_audit("face/blur", [(1, 2)])
    assert utility_against_privacy(comparison, [audit]) is not None
    assert utility_against_privacy(comparison, [audit | {"source": "/there/others"}]) is None


def test_audits_are_read(tmp_path):
    audit = make_audit("face/blur", [(0, 2)])
    (tmp_path / "audit.json").write_text(json.dumps(audit | {"detector": {}}))
    assert read_audits([tmp_path]) == read_audits([tmp_path / "audit.json"]) == [audit]
    (tmp_path / "audit.json").write_text(json.dumps({"condition": "face/blur"}))
    with pytest.raises(UserError, match=r"audit\.json: is not an audit\.json of audit\.py: KeyError"):
        read_audits([tmp_path])
    with pytest.raises(UserError, match=r"does not exist; python audit\.py DIR writes it"):
        read_audits([tmp_path / "other.json"])


def test_without_originals_there_is_no_change_to_draw(tmp_path):
    (comparison,) = compare([run for run in make_runs(tmp_path) if run.condition != "original"])
    assert write_figures(comparison, tmp_path / "figures") == {}


@pytest.fixture
def everything(comparison, tmp_path):
    """All figures, with the logs and the audits that they need."""
    for run in comparison.runs:
        write_log(run, 0, [(99, 10.0 + run.seed), (299, 20.0)])
    (other,) = compare(make_runs(tmp_path, dataset="another_dataset_with_a_name"))
    audits = [make_audit(c, [(1, 2), (2, 2)]) for c in VALUES if c != "original"]
    return lambda folder: write_figures(comparison, folder, audits) | write_overview([comparison, other], folder)


def test_figures_are_the_same_bytes_every_time(everything, tmp_path):
    paths = everything(tmp_path / "a")
    assert list(paths) == ["delta", "metrics", "size", "training", "privacy", "amount"]
    assert paths["delta"] == tmp_path / "a" / "streetscenes-quickstart-delta.png"
    everything(tmp_path / "b")
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(f"{path.stem}{ending}" for path in paths.values() for ending in (".png", ".svg"))
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_figures_can_be_read_at_half_a_page(everything, tmp_path, monkeypatch):
    """3.4 inches wide, no letters under 7 points, none cut off, and none over others."""
    drawn = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: drawn.append(figure))
    everything(tmp_path)
    assert len(drawn) == 12
    for figure in drawn[::2]:
        assert figure.get_figwidth() == 3.4
        figure.draw_without_rendering()
        texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        texts = [text for text in texts if is_within_axis(text, figure.axes[0])]
        assert min(text.get_fontsize() for text in texts) >= 7
        boxes = [text.get_window_extent() for text in texts]
        for box in boxes:
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:i]), texts[i]


def is_within_axis(text, axes):
    """Tick labels outside of the limits are there, but not drawn."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if text is tick.label1:
                return low <= tick.get_loc() <= high
    return True


def test_metrics_in_words():
    assert in_words("val/segm/AP50_person") == "mask AP50 of person"
    assert in_words("val/keypoints/AP") == "keypoint AP"
    assert in_words("val/bbox/AP_m") == "box AP of medium objects"
    assert in_words("val/bbox/AP_traffic_light") == "box AP of traffic_light"


@pytest.mark.parametrize("name", ["delta.jpg", "file/delta.png"])
def test_unwritable_figures_are_named(comparison, tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--output: .*delta\.(jpg is not named|png cannot be written)"):
        save_figure(delta_by_condition(comparison), tmp_path / name)
