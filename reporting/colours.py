"""One look for each condition, the same in figures, on the page and in dashboards.

The colours are Paul Tol's ("Colour schemes", SRON/EPS/TN/09-002, 2021: bright, vibrant, muted, dark, discrete rainbow).
They are those of his that can be told apart with any colour vision, in marks as small as the figures' and on white; a
method has one hue, lighter for faces than for bodies as far as that allows. Region is told by the marker too.
"""

from anonymization.conditions import parse_condition

COLOURS = {
    "original": "#000000",
    "face/blur": "#6195cf",
    "face/mask_out": "#dc050c",
    "face/pixelate": "#ee3377",
    "face/realistic": "#228833",
    "face/realistic_refined": "#999933",
    "body/blur": "#0077bb",
    "body/mask_out": "#72190e",
    "body/pixelate": "#aa4499",
    "body/realistic": "#225555",
    "body/realistic_hm": "#009988",
    "body/realistic_hm_lo": "#332288",
}
MARKERS = {"none": "d", "face": "o", "body": "s"}  # Matplotlib's names, by region
MARKER_SIZE = 5.0  # points: in smaller marks some of the colours are alike


def colour(condition: str) -> str:
    """The colour of a condition: ``"#rrggbb"``.

    Raises:
        UserError: there is no such condition.
    """
    return COLOURS[str(parse_condition(condition))]


def marker(condition: str) -> str:
    """The marker of a condition's region, as Matplotlib names it: diamond for originals, circle for faces, square for
    bodies.

    Raises:
        UserError: there is no such condition.
    """
    return MARKERS[parse_condition(condition).region]
