"""Which differences to original mean anything: a confidence interval of each."""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, variance

import numpy as np
from scipy.special import stdtrit

from errors import UserError
from metrics.matches import read_matches
from reporting.results import Run

CONFIDENCE = 0.95
RESAMPLES = 400  # more than 200 are seldom needed for a standard error: Efron & Tibshirani 1993, chapter 6.4
SAME = 0.05  # AP in percent, within which matches.npz and results.json say the same

METHOD = (
    f"The intervals are {100 * CONFIDENCE:.0f} % confidence intervals of the difference of two means over seeds, by "
    "Student's t with the degrees of freedom of Welch and Satterthwaite, as a bootstrap over few seeds is too narrow. "
    "The variance is that over the seeds of both conditions and, where all their runs kept per-image results, that "
    f"over the validation images, from {RESAMPLES} bootstrap resamples of them, the same for both conditions (Efron & "
    "Tibshirani, An Introduction to the Bootstrap, 1993). What each seed finds on images of its own is part of both "
    "and counts once. An interval over seeds alone says nothing about other images, one over images alone nothing "
    "about other seeds; of twenty intervals one misses the truth, on average."
)


@dataclass(frozen=True)
class Interval:
    """A confidence interval, in AP percent."""

    low: float
    high: float
    over: str  # what would be others if the study were repeated: "seeds", "images", "seeds and images"

    @property
    def excludes_0(self) -> bool:
        """Whether it says that there is a difference."""
        return not self.low <= 0 <= self.high

    def ends(self) -> tuple[str, str]:
        """Give its ends as they are printed: so many digits that it excludes 0 to a reader too."""
        digits = 1
        while self.excludes_0 and round(min(abs(self.low), abs(self.high)), digits) == 0:
            digits += 1
        return f"{self.low:+z.{digits}f}", f"{self.high:+z.{digits}f}"


def delta_intervals(runs: list[Run], originals: list[Run], metrics: list[str]) -> dict[str, Interval]:
    """Give the 95 % interval of mean(runs) - mean(originals), as `METHOD` says, for each metric that has one.

    The variance of a difference is the sum of

    - that over seeds, s² / n of each condition, if both have two runs at least. A bootstrap over n = 3 values would
      give 2/3 of it, and know nothing of the tails of Student's t;
    - that over images, if all runs have their ``matches.npz``: the AP of every run is computed anew on each resample,
      the same for both conditions, and the difference of the means varies. The spread is used and not the
      percentiles, as AP is no mean over images: of resamples, in which images come several times, it is biased.

    What varies from image to image in a way of its own for each seed is in both, and is left out of the second (as
    components of variance in a crossed design; if there is but one seed, it stays). Where the seeds happen to vary by
    less than that, it takes their place: else three seeds that agree by chance would make an interval narrower than
    that over the images alone. Degrees of freedom over images are those of the images with an object to be found.
    There is no interval where neither is known or no value varies.

    Args:
        runs: of one condition.
        originals: those to compare with.
        metrics: names as in `Run.metrics`.
    """
    names = tuple(metrics)
    per_image = []
    for run in (*runs, *originals):
        try:
            per_image.append(_per_image(run, names))
        except UserError:  # `per_image_problems` says so
            per_image.append(None)
    paired = all(per_image) and len({of_run.truth for of_run in per_image}) == 1
    intervals = {}
    for metric in metrics:
        sides = [[run.metrics[metric] for run in side if metric in run.metrics] for side in (runs, originals)]
        if not all(sides):
            continue
        parts, over = [], []
        if min(map(len, sides)) > 1:
            parts += [(variance(values) / len(values), len(values) - 1) for values in sides]
            over.append("seeds")
        of_images = _over_images(per_image, len(runs), metric) if paired else None
        if of_images:
            shared, own, degrees = of_images
            parts = [max(part, (of_side, degrees)) for part, of_side in zip(parts, own, strict=False)]
            parts.append((shared, degrees))
            over.append("images")
        total = sum(part for part, _ in parts)
        if total > 0:
            freedom = total**2 / sum(part**2 / degrees for part, degrees in parts)
            half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * total**0.5
            delta = fmean(sides[0]) - fmean(sides[1])
            intervals[metric] = Interval(delta - half, delta + half, " and ".join(over))
    return intervals


def per_image_problems(runs: list[Run], metrics: list[str]) -> list[str]:
    """Say in a line each why per-image results that were kept cannot be used."""
    problems, truths = [], set()
    for run in runs:
        try:
            of_run = _per_image(run, tuple(metrics))
            truths |= {of_run.truth} if of_run else set()
        except UserError as error:
            problems.append(f"{error}; the intervals with this run are over seeds alone")
    if len(truths) > 1:
        problems.append("matches.npz: runs were validated on different images; their intervals are over seeds alone")
    return problems


@dataclass(frozen=True)
class _PerImage:
    """What one run's per-image results say about some metrics."""

    truth: bytes  # the same for runs on the same images with the same objects
    values: dict[str, np.ndarray]  # AP of the images themselves and of every resample, `[1 + RESAMPLES]`
    images: dict[str, int]  # how many have an object to be found


def _per_image(run: Run, metrics: tuple[str, ...]) -> _PerImage | None:
    """What a run kept, or None.

    Raises:
        UserError: the file is broken, or another model's.
    """
    path = run.path.with_name("matches.npz")
    if not path.is_file():
        return None
    per_image = _resample(path, path.stat().st_mtime_ns, metrics)
    for metric in sorted(run.metrics.keys() & per_image.values.keys()):
        kept, expected = per_image.values[metric][0], run.metrics[metric]
        if not abs(kept - expected) < SAME:
            raise UserError(
                f"{path}: is not of the results beside it, those of last.ckpt: {metric} is {kept:.2f}, "
                f"not {expected:.2f}"
            )
    return per_image


@cache
def _resample(path: Path, changed: int, metrics: tuple[str, ...]) -> _PerImage:
    """Compute the metrics anew on each resample of the images of a file, which was last ``changed`` then."""
    truth, values, images = hashlib.sha256(), {}, {}
    for matches in read_matches(path):
        truth.update("\n".join([matches.iou_type, *matches.classes, *matches.images]).encode())
        truth.update(matches.objects.tobytes())
        count = len(matches.images)
        resamples = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
        weights = np.concatenate([np.ones((1, count), int), resamples])
        for name, ap in matches.average_precision(weights, {m.removeprefix("val/") for m in metrics}).items():
            values[f"val/{name}"] = ap
            images[f"val/{name}"] = matches.images_with_objects(name)
    return _PerImage(truth.digest(), values, images)


def _over_images(per_image: list[_PerImage], runs: int, metric: str) -> tuple[float, tuple[float, ...], int] | None:
    """The variance over images of the first ``runs``' mean minus the others'.

    Returns:
        That without what is a seed's own, this for each side (none where a side has but one seed), and the degrees of
        freedom.
    """
    images = per_image[0].images.get(metric, 0)
    if images < 2:
        return None
    values = np.array([of_run.values[metric][1:] for of_run in per_image])
    sides = values[:runs], values[runs:]
    # A class may be on none of the images of a resample.
    total = np.nanvar(sides[0].mean(axis=0) - sides[1].mean(axis=0), ddof=1)
    own = ()
    if min(map(len, sides)) > 1:
        varying = [np.nanvar(side - side.mean(axis=0), axis=1, ddof=1) for side in sides]
        own = tuple(float(of_side.sum()) / (len(of_side) * (len(of_side) - 1)) for of_side in varying)
    return max(0.0, float(total) - sum(own)), own, images - 1
