"""Draws people: limbs, clothes, bags, and where their joints are."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .canvas import Colour, Shader, Sheet, capsule, ellipse, moved, shade, smooth
from .heads import Head
from .looks import Look
from .optics import Light, Stance
from .poses import HEAD, KEYPOINTS, LEFT_ARM, LEFT_LEG, RIGHT_ARM, RIGHT_LEG, THING, TRUNK, Body, Pose, skeleton

# Parts that show a joint where they are drawn over it.
_PARTS_OF_JOINT = {
    "shoulder": (TRUNK, LEFT_ARM, RIGHT_ARM),
    "elbow": (LEFT_ARM, RIGHT_ARM),
    "wrist": (LEFT_ARM, RIGHT_ARM),
    "hip": (TRUNK, LEFT_LEG, RIGHT_LEG),
    "knee": (TRUNK, LEFT_LEG, RIGHT_LEG),
    "ankle": (LEFT_LEG, RIGHT_LEG),
}
# Angle around the head from the nose to the left in radians, and height in heads.
_FACE_POINTS = {
    "nose": (0.0, -0.1),
    "left_eye": (0.46, 0.03),
    "right_eye": (-0.46, 0.03),
    "left_ear": (np.pi / 2, -0.03),
    "right_ear": (-np.pi / 2, -0.03),
}


@dataclass
class Anatomy:
    """What was drawn where, in picture pixels.

    Attributes:
        keypoints: (17, 3) of x, y and COCO visibility as far as the person's own body hides them (1 or 2).
        face: x0, y0, x1, y1 of the face; None if it is turned away.
    """

    keypoints: NDArray[np.float64]
    face: tuple[float, float, float, float] | None


@dataclass
class _Figure:
    """One person in the picture: the joints projected, and what drawing the parts needs to know."""

    sheet: Sheet
    stance: Stance
    body: Body
    look: Look
    light: Light
    pose: Pose
    joints: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    px: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    near: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.joints = skeleton(self.body, self.pose)
        points, near = self.stance.project(np.stack(list(self.joints.values())))
        self.px = dict(zip(self.joints, points, strict=True))
        self.near = dict(zip(self.joints, map(float, near), strict=True))

    @property
    def unit(self) -> float:
        """Picture pixels per stature."""
        return self.stance.scale * self.body.height

    def limb(
        self, start: str, end: str, radii: tuple[float, float], colour: Colour, part: int, reach: float = 1.0
    ) -> None:
        """A limb from joint to joint (or to the share ``reach`` of it), lit from one side; radii in statures."""
        a, b = self.px[start], self.px[start] + (self.px[end] - self.px[start]) * reach
        r0, r1 = radii[0] * self.unit, radii[1] * self.unit
        self.sheet.fill(capsule(a, b, r0, r1), shade(colour, 0.8), part)
        shift = np.array([0.3 * self.light.side, -0.1])
        self.sheet.fill(capsule(a + shift * r0, b + shift * r1, 0.68 * r0, 0.68 * r1), colour, part)


def draw_person(sheet: Sheet, stance: Stance, body: Body, look: Look, pose: Pose, light: Light) -> Anatomy:
    """Draw one person and say where the joints and the face are."""
    figure = _Figure(sheet, stance, body, look, light, pose)
    facing = np.cos(stance.yaw)
    middle = 0.5 * (figure.near["pelvis"] + figure.near["neck"])
    reach = {
        side: 0.5 * (figure.near[f"{side}_elbow"] + figure.near[f"{side}_wrist"]) - middle for side in ("left", "right")
    }
    in_front = {side: nearness > -0.015 * body.height - 0.04 * abs(facing) for side, nearness in reach.items()}
    if look.bag == "backpack" and facing > 0.2:
        _backpack(figure)
    for side in sorted(in_front, key=lambda s: reach[s]):
        if not in_front[side]:
            _arm(figure, side)
    for side in sorted(("left", "right"), key=lambda s: figure.near[f"{s}_knee"] + 0.5 * figure.near[f"{s}_ankle"]):
        _leg(figure, side)
    _trunk(figure)
    if look.bag == "backpack" and facing <= 0.2:
        _backpack(figure)
    yaw, size = stance.yaw + pose.look, body.head * figure.unit
    head = Head(sheet, look, light, figure.px["neck"], figure.px["head"], yaw, size, figure.unit)
    head.draw()
    for side in sorted(in_front, key=lambda s: reach[s]):
        if in_front[side]:
            _arm(figure, side)
    return Anatomy(_keypoints(figure, head), head.face_box())


# --- limbs and clothes ------------------------------------------------------------------------------------


def _leg(figure: _Figure, side: str) -> None:
    look, part = figure.look, LEFT_LEG if side == "left" else RIGHT_LEG
    girth = figure.body.girth
    hip, knee, ankle, toe = (f"{side}_{joint}" for joint in ("hip", "knee", "ankle", "toe"))
    bare = ((0.047 * girth, 0.033 * girth), (0.033 * girth, 0.02))
    figure.limb(ankle, toe, (0.025, 0.019), look.shoes, part)
    skin_legs = look.lower in ("shorts", "skirt", "bare")
    stocking = look.skin if skin_legs else look.lower_colour
    loose = 0.008 if look.lower == "trousers" else 0.0
    figure.limb(knee, ankle, (bare[1][0] + loose, bare[1][1] + loose), stocking, part)
    figure.limb(hip, knee, (bare[0][0] + loose, bare[0][1] + loose), stocking, part)
    if look.lower == "shorts":
        figure.limb(hip, knee, (0.056 * girth, 0.046 * girth), look.lower_colour, part, 0.8)


def _arm(figure: _Figure, side: str) -> None:
    look, part = figure.look, LEFT_ARM if side == "left" else RIGHT_ARM
    shoulder, elbow, wrist = (f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist"))
    girth = 0.5 + 0.5 * figure.body.girth
    short = look.upper in ("tee", "dress", "vest")
    cloth = shade(look.colour, 0.94)
    thick = 0.007 if look.upper in ("jacket", "coat", "hoodie") else 0.002
    along = figure.px[wrist] - figure.px[elbow]
    hand = figure.px[wrist] + along / (float(np.hypot(*along)) or 1.0) * 0.02 * figure.unit
    figure.sheet.fill(ellipse(hand, (0.022 * figure.unit,) * 2), look.skin, part)
    figure.limb(elbow, wrist, (0.024 * girth + thick, 0.018 + thick), look.skin if short else cloth, part)
    figure.limb(shoulder, elbow, (0.031 * girth + thick, 0.025 * girth + thick), look.skin if short else cloth, part)
    if short and look.upper != "vest":
        figure.limb(shoulder, elbow, (0.038 * girth, 0.036 * girth), cloth, part, 0.5)
    if side == "left" and look.bag in ("handbag", "shopping"):
        _carried_bag(figure, hand)


def _half_widths(figure: _Figure) -> NDArray[np.float64]:
    """Half the width of the trunk at neck, shoulders, chest, waist, hips and below, in statures."""
    body = figure.body
    c, s = abs(np.cos(figure.stance.yaw)), abs(np.sin(figure.stance.yaw))
    girth, belly = body.girth, body.girth**1.5
    shoulder, hip = body.shoulder, body.hip * girth
    front = np.array([0.035, shoulder + 0.012, shoulder - 0.002, 0.082 * belly, hip, 0.98 * hip])
    flank = np.array([0.035, 0.042, 0.066 * girth, 0.068 * belly, 0.07 * girth, 0.062 * girth])
    return np.hypot(front * c, flank * s) + (0.008 if figure.look.upper in ("jacket", "coat", "hoodie") else 0.0)


def _trunk(figure: _Figure) -> None:
    look, sheet, unit = figure.look, figure.sheet, figure.unit
    pelvis, neck = figure.px["pelvis"], figure.px["neck"]
    axis = neck - pelvis
    length = float(np.hypot(*axis)) or 1.0
    axis /= length
    across = np.array([-axis[1], axis[0]])
    levels = np.array([1.08, 0.97, 0.72, 0.36, 0.0, -0.14]) * length
    widths = _half_widths(figure) * unit
    centres = pelvis + axis * levels[:, None]
    outline = np.concatenate([centres + across * widths[:, None], (centres - across * widths[:, None])[::-1]])
    if look.lower == "skirt" or look.upper == "dress":
        _skirt(figure, look.colour if look.upper == "dress" else look.lower_colour, 0.86)
    elif look.lower != "bare":
        low = pelvis + axis * np.array([0.14, 0.0, -0.16])[:, None] * length
        rim = across * np.array([1.0, 1.02, 0.92])[:, None] * widths[4]
        seat = smooth(np.concatenate([low + rim, (low - rim)[::-1]]), 1)
        sheet.fill(seat, shade(look.lower_colour, 0.94), TRUNK)
    if look.upper == "coat":
        _skirt(figure, look.colour, 0.95)
    shader = _cloth(look, pelvis, axis, across, unit, float(widths.max()), figure.light)
    sheet.paint(smooth(outline), shader, TRUNK)
    facing = float(np.cos(figure.stance.yaw))
    if look.upper in ("jacket", "coat") and facing > 0.3:
        _opening(figure, centres, across * float(np.sin(figure.stance.yaw)) * widths[2], facing)
    if look.bag == "shoulder":
        hip = centres[4] - across * widths[4]
        sheet.line([centres[1] + across * widths[1] * 0.7, hip], 0.02 * unit, look.bag_colour, THING)
        sheet.fill(smooth(_block(hip, (0.06 * unit, 0.055 * unit)), 1), look.bag_colour, THING)


def _opening(figure: _Figure, centres: NDArray[np.float64], turn: NDArray[np.float64], facing: float) -> None:
    """The shirt seen between the open fronts of a jacket."""
    wide = 0.03 * figure.unit * facing
    across = np.array([wide, 0.0])
    middle = centres[[0, 2, 4]] + turn
    offsets = np.array([1.0, 0.8, 0.3])[:, None] * across
    figure.sheet.fill(np.concatenate([middle + offsets, (middle - offsets)[::-1]]), figure.look.second, TRUNK)


def _skirt(figure: _Figure, colour: Colour, reach: float) -> None:
    """Cloth from the hips towards the knees, wide enough for the stride."""
    unit, pelvis = figure.unit, figure.px["pelvis"]
    hip = float(_half_widths(figure)[4]) * unit
    knees = [figure.px["left_knee"], figure.px["right_knee"]]
    hem = [pelvis + (knee - pelvis) * reach for knee in knees]
    left = min(point[0] for point in hem) - 0.062 * unit
    right = max(point[0] for point in hem) + 0.062 * unit
    low = max(point[1] for point in hem)
    top = pelvis[1] - 0.05 * unit
    outline = [
        (pelvis[0] - hip, top),
        (pelvis[0] + hip, top),
        (right, low),
        (0.5 * (left + right), low + 0.012 * unit),
        (left, low),
    ]
    side = figure.light.side
    wide = max(right - left, 1.0)

    def shader(x: NDArray, y: NDArray) -> NDArray:
        u = (x - 0.5 * (left + right)) / wide
        folds = 0.05 * np.sin(u * 26.0)
        return np.asarray(colour, float) * (0.92 + 0.22 * u * side + folds)[:, None]

    figure.sheet.paint(outline, shader, TRUNK)


def _cloth(
    look: Look, origin: NDArray, axis: NDArray, across: NDArray, unit: float, width: float, light: Light
) -> Shader:
    """Shader of the upper garment: its pattern, rounded by the light from one side."""
    first, second = np.asarray(look.colour, float), np.asarray(look.second, float)
    size, pattern = look.pattern_size, look.pattern
    side = light.side * np.sign(across[0] or 1.0)

    def shader(x: NDArray, y: NDArray) -> NDArray:
        dx, dy = x - origin[0], y - origin[1]
        u, v = (dx * across[0] + dy * across[1]) / unit, (dx * axis[0] + dy * axis[1]) / unit
        match pattern:
            case "hoops":
                share = (v % size < 0.45 * size) * 1.0
            case "stripes":
                share = (u % (0.7 * size) < 0.25 * size) * 1.0
            case "checks":
                share = 0.4 * (u % size < 0.4 * size) + 0.4 * (v % size < 0.4 * size)
            case "dots":
                share = (((u % size) / size - 0.5) ** 2 + ((v % size) / size - 0.5) ** 2 < 0.07) * 1.0
            case "logo":
                share = ((u / 0.045) ** 2 + ((v - 0.2) / 0.03) ** 2 < 1) * 1.0
            case "band":
                share = ((v > 0.14) & (v < 0.2)) * 1.0
            case "diagonal":
                share = ((u + v) % (1.3 * size) < 0.5 * size) * 1.0
            case _:
                share = np.zeros_like(u)
        round_light = 0.93 + 0.2 * side * u * unit / width + 0.025 * np.sin(v * 40 + u * 25)
        return (first + (second - first) * share[:, None]) * round_light[:, None]

    return shader


def _block(centre: NDArray[np.float64], half: tuple[float, float]) -> NDArray[np.float64]:
    return centre + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half


def _backpack(figure: _Figure) -> None:
    h = figure.body.height
    chest, pelvis = figure.joints["neck"], figure.joints["pelvis"]
    behind = np.array([-0.1 * h, 0.0, 0.0])
    corners = [
        base + behind + np.array([depth, side, up])
        for base, up in ((chest, -0.03 * h), (pelvis, 0.05 * h))
        for side in (-0.085 * h, 0.085 * h)
        for depth in (-0.045 * h, 0.045 * h)
    ]
    points, colour = figure.stance(corners), figure.look.bag_colour
    figure.sheet.hull(points, colour, THING)
    middle = points.mean(axis=0)
    pocket = moved(middle + (points - middle) * np.array([0.66, 0.3]), 0, 0.05 * figure.unit)
    figure.sheet.hull(pocket, shade(colour, 0.78), THING)
    if np.cos(figure.stance.yaw) <= 0.2:
        strap = figure.stance([chest + behind, chest + np.array([0.03 * h, 0.0, 0.0])])
        figure.sheet.line(strap, 0.02 * figure.unit, shade(colour, 0.7), THING)


def _carried_bag(figure: _Figure, hand: NDArray[np.float64]) -> None:
    unit, colour = figure.unit, figure.look.bag_colour
    drop, half = (0.07, (0.055, 0.04)) if figure.look.bag == "handbag" else (0.1, (0.05, 0.07))
    wide, high = half[0] * unit, half[1] * unit
    centre = moved(hand, 0, 0.75 * (drop + half[1]) * unit)
    handle = [moved(centre, -0.6 * wide, -high), hand, moved(centre, 0.6 * wide, -high)]
    figure.sheet.line(handle, 0.01 * unit, shade(colour, 0.6), THING)
    figure.sheet.fill(_block(centre, (wide, high)), colour, THING)
    figure.sheet.fill(_block(moved(centre, 0, -0.5 * high), (wide, 0.18 * high)), shade(colour, 0.75), THING)


def _keypoints(figure: _Figure, head: Head) -> NDArray[np.float64]:
    """COCO's 17 joints, 2 where the person's own body leaves them visible, else 1."""
    rows = [_face_point(figure, head, name) if name in _FACE_POINTS else _joint(figure, name) for name in KEYPOINTS]
    return np.array(rows)


def _face_point(figure: _Figure, head: Head, name: str) -> tuple[float, float, int]:
    angle, up = _FACE_POINTS[name]
    x, y = head.point(angle, up)
    turned_here = np.cos(head.yaw + angle) > (-0.1 if name.endswith("ear") else 0.0)
    return x, y, 2 if turned_here and figure.sheet.part_at((x, y)) == HEAD else 1


def _joint(figure: _Figure, name: str) -> tuple[float, float, int]:
    side, joint = name.split("_")
    x, y = figure.px[name]
    part = figure.sheet.part_at((x, y))
    own = (TRUNK, LEFT_ARM, LEFT_LEG) if side == "left" else (TRUNK, RIGHT_ARM, RIGHT_LEG)
    # Seen from the side, the far shoulder and hip lie behind the trunk.
    behind = abs(np.sin(figure.stance.yaw)) > 0.75 and figure.near[name] < figure.near["pelvis"]
    hidden = part not in own or part not in _PARTS_OF_JOINT[joint] or (part == TRUNK and behind)
    return x, y, 1 if hidden else 2
