"""The colours of conditions, seen through others' eyes."""

from itertools import combinations

import numpy as np
import pytest
from skimage.color import rgb2lab

from anonymization.conditions import CONDITIONS
from errors import UserError
from reporting.colours import COLOURS, MARKER_SIZE, colour, marker

# What dichromats see of linear RGB: Machado, Oliveira & Fernandes 2009, "A Physiologically-based Model for
# Simulation of Color Vision Deficiency", severity 1.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


def linear(name):
    """sRGB's transfer function (IEC 61966-2-1), as WCAG 2 has it."""
    values = np.array([int(name[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def seen(name, vision):
    """CIELAB of a colour through somebody's eyes."""
    values = np.clip(np.array(VISIONS[vision]) @ linear(name), 0, 1)
    values = np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)
    return rgb2lab(values[None])[0]


def noticeable():
    """The least differences of L*, a*, b* that half of the people notice, in marks of the figures' size.

    Stone, Szafir & Setlur 2014, "An Engineering Model for Color Difference as a Function of Size"; the size in degrees,
    of a page read at half a metre.
    """
    degrees = np.degrees(np.arctan(MARKER_SIZE / 72 * 25.4 / 500))
    return np.array([5.079, 5.339, 5.349]) + np.array([0.751, 1.541, 2.871]) / degrees


def test_every_condition_has_a_colour_and_its_regions_marker():
    assert tuple(COLOURS) == CONDITIONS
    markers = {condition.partition("/")[0]: marker(condition) for condition in CONDITIONS}
    assert len(set(markers.values())) == len(markers) == 3
    assert all(marker(condition) == markers[condition.partition("/")[0]] for condition in CONDITIONS)
    with pytest.raises(UserError, match="did you mean 'body/blur'"):
        colour("body/blurr")


@pytest.mark.parametrize("condition", CONDITIONS)
def test_colours_are_seen_on_white(condition):
    """WCAG 2.2, criterion 1.4.11: graphics have a contrast of 3 : 1 with what is next to them."""
    luminance = linear(colour(condition)) @ [0.2126, 0.7152, 0.0722]
    assert 1.05 / (luminance + 0.05) >= 3


@pytest.mark.parametrize("vision", VISIONS)
def test_colours_are_told_apart(vision):
    for one, other in combinations(CONDITIONS, 2):
        difference = (seen(colour(one), vision) - seen(colour(other), vision)) / noticeable()
        assert np.linalg.norm(difference) > 1, (one, other)
