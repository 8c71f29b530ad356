"""What people wear and look like."""

from dataclasses import dataclass

import numpy as np

from .canvas import Colour
from .chance import pick, weighted

SKIN = (
    (255, 224, 196),
    (241, 194, 160),
    (224, 172, 130),
    (198, 134, 88),
    (160, 104, 68),
    (124, 78, 52),
    (88, 56, 40),
)
HAIR = (
    (28, 24, 24),
    (58, 40, 28),
    (96, 64, 38),
    (150, 98, 48),
    (206, 164, 92),
    (168, 76, 40),
    (168, 168, 168),
    (226, 224, 218),
)
CLOTH = (
    (196, 58, 52), (222, 120, 48), (236, 188, 72), (88, 140, 84), (52, 112, 104), (64, 128, 176), (44, 66, 112),
    (104, 72, 132), (196, 108, 140), (236, 228, 214), (180, 172, 160), (108, 112, 118), (54, 56, 62), (30, 30, 36),
    (132, 92, 62), (212, 200, 150), (146, 186, 204), (120, 48, 56), (156, 168, 96), (244, 244, 240),
)  # fmt: skip
TROUSERS = (
    (44, 58, 92),
    (70, 92, 130),
    (112, 138, 170),
    (40, 40, 46),
    (92, 92, 96),
    (176, 156, 118),
    (84, 74, 58),
    (120, 60, 52),
    (60, 80, 64),
    (214, 208, 196),
)
SHOES = ((32, 30, 32), (92, 60, 40), (236, 236, 236), (170, 44, 48), (60, 84, 120), (120, 120, 120))
PATTERNS = ("plain", "plain", "hoops", "stripes", "checks", "dots", "logo", "band", "diagonal")
UPPERS = {"tee": 0.24, "long": 0.2, "jacket": 0.2, "coat": 0.1, "dress": 0.12, "hoodie": 0.1, "vest": 0.04}
LOWERS = {"trousers": 0.58, "shorts": 0.16, "skirt": 0.14, "leggings": 0.12}
HAIR_STYLES = {"short": 0.33, "long": 0.17, "bob": 0.14, "tail": 0.11, "bun": 0.08, "curls": 0.09, "bald": 0.08}
HATS = {"none": 0.72, "cap": 0.1, "beanie": 0.08, "brim": 0.05, "hood": 0.05}
BAGS = {"none": 0.52, "backpack": 0.16, "handbag": 0.1, "shoulder": 0.12, "shopping": 0.1}


@dataclass(frozen=True)
class Look:
    """Clothes and appearance; colours are RGB."""

    skin: Colour
    hair: Colour
    hair_style: str
    beard: bool
    glasses: bool
    hat: str
    hat_colour: Colour
    upper: str
    colour: Colour
    second: Colour
    pattern: str
    lower: str
    lower_colour: Colour
    shoes: Colour
    bag: str
    bag_colour: Colour
    pattern_size: float


def random_look(rng: np.random.Generator, child: bool) -> Look:
    """Any clothes with any face."""

    upper = weighted(rng, UPPERS)
    lower = weighted(rng, LOWERS)
    if upper == "dress":
        lower = pick(rng, ("bare", "leggings"))
    grey = rng.random() < 0.15 and not child
    return Look(
        skin=pick(rng, SKIN),
        hair=pick(rng, HAIR[6:]) if grey else pick(rng, HAIR[:6]),
        hair_style=weighted(rng, HAIR_STYLES),
        beard=rng.random() < 0.16 and not child and upper != "dress",
        glasses=rng.random() < 0.2,
        hat=weighted(rng, HATS),
        hat_colour=pick(rng, CLOTH),
        upper=upper,
        colour=pick(rng, CLOTH),
        second=pick(rng, CLOTH),
        pattern=pick(rng, PATTERNS),
        lower=lower,
        lower_colour=pick(rng, TROUSERS),
        shoes=pick(rng, SHOES),
        bag=weighted(rng, BAGS),
        bag_colour=pick(rng, CLOTH),
        pattern_size=float(rng.uniform(0.045, 0.1)),
    )
