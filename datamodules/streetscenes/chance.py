"""Random choices."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

Option = TypeVar("Option")


def pick(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    """One of ``options``, all equally likely."""
    return options[int(rng.random() * len(options))]


def weighted(rng: np.random.Generator, weights: Mapping[Option, float]) -> Option:
    """One of the keys, as likely as its weight."""
    rest = rng.random() * sum(weights.values())
    for option, weight in weights.items():
        rest -= weight
        if rest < 0:
            return option
    return option
