"""Intervals hold the truth as often as they say, where the truth is known."""

import numpy as np
import pytest
from scipy import stats

from metrics.matches import Matches, write_matches
from reporting.results import Run
from reporting.significance import Interval, delta_intervals, per_image_problems

AP = "val/segm/AP"


def run(folder, ap: float) -> Run:
    return Run(folder / "results.json", "e", "d", "original", "none", "original", 0, {AP: ap})


def runs(folder, values: list[float]) -> list[Run]:
    return [run(folder / f"without_matches_{index}", value) for index, value in enumerate(values)]


def keep(folder, hits: np.ndarray, objects: np.ndarray | None = None) -> Run:
    """A run that finds some people and nothing else, so that its AP is their share.

    Args:
        folder: of the run, made here.
        hits: how many it finds on each image, int `[I]`.
        objects: how many there are, int `[I]`; by default one on each.
    """
    folder.mkdir(parents=True)
    image = np.repeat(np.arange(len(hits), dtype=np.int32), hits)
    objects = np.ones(len(hits), np.int32) if objects is None else objects.astype(np.int32)
    right = np.ones((len(image), 1, 10), bool)
    matches = Matches(
        "segm",
        "cityscapes",
        images=[f"ulm_{index}" for index in range(len(hits))],
        classes=["person"],
        areas=["all"],
        label=np.zeros(len(image), np.uint16),
        image=image,
        score=np.linspace(1, 0, len(image)),
        right=right,
        wrong=~right,
        objects=objects[None, None],
    )
    write_matches(folder / "matches.npz", [matches])
    return run(folder, 100 * hits.sum() / objects.sum())


def simulate(folder, rng, images: int, seeds: int, of_seed: float = 0.04) -> tuple[list[Run], list[Run]]:
    """Two conditions with the same expected AP.

    Whether a run finds somebody depends on its seed, on the image, on the condition of the image, and on chance.
    """
    of_image, of_condition = rng.normal(0, 0.15, images), rng.normal(0, 0.1, images)
    sides = []
    for condition, sign in enumerate((1, -1)):
        shares = [0.5 + of_image + sign * of_condition + rng.normal(0, of_seed) for _ in range(seeds)]
        hits = [(rng.random(images) < share).astype(int) for share in shares]
        sides.append([keep(folder / f"{condition}_{seed}", of_run) for seed, of_run in enumerate(hits)])
    return tuple(sides)


@pytest.mark.parametrize("over", ["seeds and images", "seeds", "images"])
def test_95_of_100_intervals_hold_the_truth(over, tmp_path, monkeypatch):
    monkeypatch.setattr("reporting.significance.RESAMPLES", 100)
    rng = np.random.default_rng(0)
    studies, held = 200, 0
    for study in range(studies):
        if over == "seeds":
            sides = [runs(tmp_path, rng.normal(50, 2, 3).tolist()) for _ in range(2)]
        else:
            arguments = (3,) if over == "seeds and images" else (1, 0)
            sides = simulate(tmp_path / str(study), rng, 40, *arguments)
        interval = delta_intervals(*sides, [AP])[AP]
        assert interval.over == over
        held += interval.low < 0 < interval.high
    low, high = stats.binom.ppf([1e-4, 1 - 1e-4], studies, 0.95)
    assert low <= held <= high


@pytest.mark.parametrize("found", [(50, 50, 50), (30, 50, 70)], ids=["seeds agree by chance", "seeds differ"])
def test_what_is_of_a_seed_and_an_image_counts_once(tmp_path, found):
    """It is in the variance over seeds, or takes its place; over images is what analysis of variance leaves."""
    rng = np.random.default_rng(0)
    hits = np.zeros((2, 3, 300), bool)  # of two conditions with three seeds
    hits[:, :, :100] = True
    hits[0, :, 100:120] = True
    for of_seed, count in zip(hits[0], found, strict=True):
        of_seed[200:] = rng.permutation(100) < count
    sides = [
        [keep(tmp_path / f"{condition}_{seed}", of_seed.astype(int)) for seed, of_seed in enumerate(of_condition)]
        for condition, of_condition in enumerate(hits)
    ]
    interval = delta_intervals(*sides, [AP])[AP]

    means = hits.mean(axis=1)
    together = np.var(means[0] - means[1]) / 300
    own = np.var(hits[0] - means[0], axis=1).mean() / 2 / 300
    of_seeds = np.var(np.array(found) / 300, ddof=1) / 3
    expected, freedom = (together - own + of_seeds, 2) if of_seeds > own else (together, 299)
    if freedom == 2:
        freedom = expected**2 / (of_seeds**2 / 2 + (together - own) ** 2 / 299)
    half = 100 * stats.t.ppf(0.975, freedom) * expected**0.5
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.1)
    assert together - own < 0.8 * together


def test_over_seeds_alone_it_is_welchs(tmp_path):
    ours, originals = [30.1, 32.5, 31.0], [35.0, 35.2]
    interval = delta_intervals(runs(tmp_path, ours), runs(tmp_path, originals), [AP, "val/segm/AP50"])
    expected = stats.ttest_ind(ours, originals, equal_var=False).confidence_interval(0.95)
    assert interval.keys() == {AP}
    assert (interval[AP].low, interval[AP].high) == pytest.approx(tuple(expected))
    assert interval[AP].over == "seeds"


def test_over_images_alone_it_is_the_paired_one(tmp_path):
    """Of the AP that is a mean over images: that of the differences, which are small however much images differ."""
    rng = np.random.default_rng(0)
    images = 400
    originals = rng.random(images) < 0.5
    ours = originals ^ (rng.random(images) < 0.05)
    sides = [[keep(tmp_path / name, hits.astype(int))] for name, hits in (("ours", ours), ("originals", originals))]
    interval = delta_intervals(*sides, [AP])[AP]
    expected = stats.ttest_rel(100.0 * ours, 100.0 * originals).confidence_interval(0.95)
    assert interval.over == "images"
    assert (interval.low + interval.high) / 2 == pytest.approx((expected.low + expected.high) / 2)
    # 400 resamples know a standard error to 1 / sqrt(2 * 400), or 3.5 %; this is four times as much.
    assert interval.high - interval.low == pytest.approx(expected.high - expected.low, rel=0.15)
    unpaired = stats.ttest_ind(100.0 * ours, 100.0 * originals).confidence_interval(0.95)
    assert unpaired.high - unpaired.low > 2 * (interval.high - interval.low)


def test_it_is_the_same_each_time_and_knows_a_file_that_changed(tmp_path):
    rng = np.random.default_rng(0)
    first = delta_intervals(*simulate(tmp_path / "a", rng, 30, 2), [AP])
    rng = np.random.default_rng(0)
    assert delta_intervals(*simulate(tmp_path / "b", rng, 30, 2), [AP]) == first
    (tmp_path / "a" / "0_0" / "matches.npz").write_bytes(b"")
    sides = [[run(tmp_path / "a" / f"{side}_{seed}", 50.0) for seed in range(2)] for side in range(2)]
    assert "0_0" in per_image_problems([*sides[0], *sides[1]], [AP])[0]


def test_what_it_is_over(tmp_path):
    rng = np.random.default_rng(0)
    ours, originals = simulate(tmp_path / "a", rng, 30, 3)
    other = simulate(tmp_path / "b", rng, 31, 3)[0]
    without = runs(tmp_path, [50.0, 51.0])

    def over(*sides: list[Run]) -> str | None:
        interval = delta_intervals(*sides, [AP]).get(AP)
        return interval and interval.over

    assert over(ours, originals) == over(ours[:2], originals) == "seeds and images"
    assert over(ours[:1], originals) == over(ours[:1], originals[:1]) == "images"
    assert over(without, originals) == over([*ours, without[0]], originals) == over(other, originals) == "seeds"
    assert over(without[:1], originals) is over(other[:1], originals) is None
    assert over(without[:1] * 2, without[:1] * 2) is over(ours, []) is over(ours[:1], ours[:1]) is None


def test_a_class_on_few_images_has_few_degrees_of_freedom(tmp_path):
    there = 5 * (np.arange(100) < 4)
    hits = {"ours": np.array([5, 2, 4, 3]), "originals": np.array([2, 3, 3, 3])}
    sides = [[keep(tmp_path / name, np.pad(own, (0, 96)), there)] for name, own in hits.items()]
    interval = delta_intervals(*sides, [AP])[AP]
    differences = 100 * (hits["ours"] - hits["originals"]) / 5
    error = np.std(differences) / 2  # of their mean
    # Besides the resamples' own error: how many of the four images are in a resample varies.
    assert interval.high - interval.low == pytest.approx(2 * stats.t.ppf(0.975, 3) * error, rel=0.3)

    one = (np.arange(100) < 1).astype(int)
    sides = [[keep(tmp_path / f"one_{name}", found * one, 2 * one)] for name, found in (("ours", 1), ("originals", 2))]
    assert delta_intervals(*sides, [AP]) == {}


def test_per_image_results_that_cannot_be_used_are_named(tmp_path):
    ours, originals = simulate(tmp_path / "a", np.random.default_rng(0), 30, 2)
    every = [*ours, *originals]
    assert per_image_problems([*every, *runs(tmp_path, [50.0])], [AP]) == []

    (other,) = simulate(tmp_path / "b", np.random.default_rng(0), 31, 1)[0]
    (problem,) = per_image_problems([*every, other], [AP])
    assert "validated on different images" in problem

    wrong = run(ours[0].path.parent, ours[0].metrics[AP] + 1)
    (problem,) = per_image_problems([wrong, *every[1:]], [AP])
    assert (
        f"{wrong.path.with_name('matches.npz')}: is not of the results beside it, those of last.ckpt: {AP} is"
        in problem
    )
    assert delta_intervals([wrong, ours[1]], originals, [AP])[AP].over == "seeds"

    ours[1].path.with_name("matches.npz").write_bytes(b"PK")
    (problem,) = per_image_problems(every, [AP])
    assert str(ours[1].path.with_name("matches.npz")) in problem
    assert delta_intervals(ours, originals, [AP])[AP].over == "seeds"


@pytest.mark.parametrize(
    ("low", "high", "ends"),
    [
        (-2.04, 1.0, ("-2.0", "+1.0")),
        (-2.04, 0.0, ("-2.0", "+0.0")),
        (-2.0495, -0.0127, ("-2.05", "-0.01")),
        (0.004, 3.0, ("+0.004", "+3.000")),
        (-0.04, 0.04, ("+0.0", "+0.0")),
    ],
)
def test_an_interval_that_excludes_0_does_so_in_print(low, high, ends):
    assert Interval(low, high, "seeds").ends() == ends
