"""Bodies and poses: where the joints of a drawn person are."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .chance import pick

Point = tuple[float, float, float]

KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip  # COCO's order

# Part numbers on the sheet, which tell a visible joint from a hidden one.
TRUNK, HEAD, LEFT_ARM, RIGHT_ARM, LEFT_LEG, RIGHT_LEG, THING = range(1, 8)

ANKLE = 0.045  # height of the ankle joint above the sole, in statures
TORSO = 0.285  # hip to shoulder joint, in statures


@dataclass(frozen=True)
class Body:
    """Proportions of a person; lengths but ``height`` are in statures.

    Attributes:
        height: stature in metres.
        head: height of the head.
        shoulder: half the distance between the shoulder joints.
        hip: half the width of the hips.
        girth: factor on everything that grows with weight.
        leg: length of the leg from hip joint to ankle.
    """

    height: float
    head: float
    shoulder: float
    hip: float
    girth: float
    leg: float

    @property
    def arm(self) -> float:
        """Length from shoulder joint to wrist."""
        return 0.315


@dataclass(frozen=True)
class Pose:
    """A pose in axes of forward, left, up, left limb before right limb.

    Attributes:
        hands: wrists relative to the shoulder joint in arm lengths; left is mirrored so that + is outward.
        feet: ankles on the ground plan below the pelvis, in statures, + outward.
        lean: forward lean of the torso in radians.
        seat: height of the hip joints in statures; None lets the legs decide.
        look: turn of the head to the left in radians.
        pitch: how far the toes point up, in radians, per foot.
        on_targets: hands and feet are points in metres instead (of a rider; the pelvis is at ``pelvis``).
        pelvis: forward position of the pelvis in metres.
    """

    hands: tuple[Point, Point]
    feet: tuple[Point, Point]
    lean: float = 0.0
    seat: float | None = None
    look: float = 0.0
    pitch: tuple[float, float] = (0.0, 0.0)
    on_targets: bool = False
    pelvis: float = 0.0


# Wrists in arm lengths from the shoulder: forward, outward, up.
HANGING = (0.04, 0.12, -0.95)
ARMS = (
    (0.10, 0.10, -0.80),  # hand in the pocket
    (-0.06, 0.16, -0.74),  # on the hip
    (0.46, -0.22, -0.22),  # holding a telephone to read it
    (0.16, 0.02, 0.26),  # telephone at the ear
    (0.12, 0.42, 0.72),  # waving
    (0.82, 0.15, 0.02),  # pointing
    (0.28, -0.42, -0.42),  # folded before the chest
    (0.52, 0.02, -0.38),  # carrying something
    (-0.14, -0.28, -0.74),  # behind the back
)


def random_body(rng: np.random.Generator, child: bool) -> Body:
    """An adult, or a child with a large head and short legs."""
    girth = float(rng.uniform(*pick(rng, ((0.82, 1.0), (1.0, 1.38)))))
    if child:
        height = rng.uniform(0.95, 1.45)
        head = np.interp(height, (0.95, 1.45), (0.205, 0.165))
        return Body(float(height), float(head), rng.uniform(0.098, 0.108), 0.085, girth, 0.435)
    height = rng.uniform(1.52, 1.94)
    head = rng.uniform(0.138, 0.152)
    return Body(
        float(height),
        float(head),
        rng.uniform(0.1, 0.124),
        rng.uniform(0.082, 0.1),
        girth,
        rng.uniform(0.46, 0.485),
    )


def _arm(rng: np.random.Generator, idle: float) -> Point:
    where = HANGING if rng.random() < idle else pick(rng, ARMS)
    return tuple(float(v + rng.normal(0, 0.04)) for v in where)


def standing(rng: np.random.Generator) -> Pose:
    """Standing, hands anywhere."""
    spread, step = rng.uniform(0.045, 0.085), rng.uniform(-0.05, 0.05)
    arms = (_arm(rng, 0.4), _arm(rng, 0.4))
    if rng.random() < 0.12:
        arms = (ARMS[6], ARMS[6])
    feet = ((step, spread, ANKLE), (-step, spread, ANKLE))
    return Pose(arms, feet, float(rng.uniform(-0.04, 0.06)), look=float(rng.uniform(-0.8, 0.8)))


def walking(rng: np.random.Generator) -> Pose:
    """One moment of a stride."""
    return _stride(rng, rng.uniform(0.14, 0.2), 0.07, 0.45, -0.88, rng.uniform(0.02, 0.1))


def running(rng: np.random.Generator) -> Pose:
    """One moment of a run, elbows bent."""
    pose = _stride(rng, rng.uniform(0.22, 0.27), 0.17, 0.35, -0.42, rng.uniform(0.14, 0.25))
    hands = tuple((f + 0.22, out, up) for f, out, up in pose.hands)
    return replace(pose, hands=hands)


def _stride(rng: np.random.Generator, stride: float, lift: float, swing: float, drop: float, lean: float) -> Pose:
    phase = rng.uniform(0, 2 * np.pi)
    feet, hands, pitch = [], [], []
    busy = rng.random() < 0.3
    for turn in (phase, phase + np.pi):
        forward, rising = np.sin(turn), max(0.0, np.cos(turn))
        behind = max(0.0, -forward)
        feet.append((stride * forward, 0.035, ANKLE + lift * rising + 0.035 * behind))
        hands.append((-swing * forward, 0.1, drop + 0.05 * abs(forward)))
        pitch.append(0.4 * max(0.0, forward) * (1 - rising) - 0.7 * behind)
    if busy:
        hands[int(rng.integers(2))] = _arm(rng, 0.0)
    return Pose(tuple(hands), tuple(feet), float(lean), look=float(rng.normal(0, 0.3)), pitch=tuple(pitch))


def sitting(rng: np.random.Generator) -> Pose:
    """Sitting on a bench."""
    feet = tuple((rng.uniform(0.2, 0.3), rng.uniform(0.05, 0.1), ANKLE) for _ in range(2))
    lap = (0.62, -0.1, -0.62)
    arms = tuple(lap if rng.random() < 0.6 else ARMS[2] for _ in range(2))
    return Pose(arms, feet, float(rng.uniform(-0.1, 0.2)), seat=0.29, look=float(rng.uniform(-0.6, 0.6)))


def riding(body: Body, saddle: Point, grips: Point, pedals: tuple[Point, Point], lean: float, look: float) -> Pose:
    """Sitting at ``saddle`` with the wrists at ``grips`` and the ankles at ``pedals`` (metres, left ones)."""
    return Pose(
        (grips, grips),
        pedals,
        lean,
        seat=saddle[2] / body.height,
        look=look,
        on_targets=True,
        pelvis=saddle[0],
    )


def skeleton(body: Body, pose: Pose) -> dict[str, NDArray[np.float64]]:
    """Joints in metres as (3,) of forward, left, up, feet on the ground.

    Keys are ``pelvis``, ``neck``, ``head`` (its middle) and left_ and right_ ``shoulder``, ``elbow``, ``wrist``,
    ``hip``, ``knee``, ``ankle``, ``toe``.
    """
    h = body.height
    thigh, shin = 0.5 * body.leg * h, 0.5 * body.leg * h
    upper, fore = 0.53 * body.arm * h, 0.47 * body.arm * h
    feet = [np.array(foot) * (1 if pose.on_targets else h) for foot in pose.feet]
    seat = pose.seat * h if pose.seat is not None else _standing_height(feet, thigh + shin)
    pelvis = np.array([pose.pelvis, 0.0, seat])
    up = np.array([np.sin(pose.lean), 0.0, np.cos(pose.lean)])
    chest = pelvis + up * TORSO * h
    head_up = np.array([np.sin(0.4 * pose.lean), 0.0, np.cos(0.4 * pose.lean)])
    joints = {"pelvis": pelvis, "neck": chest + up * 0.02 * h}
    joints["head"] = chest + head_up * (0.045 + 0.5 * body.head) * h
    for side, name, hand, foot, pitch in zip((1, -1), ("left_", "right_"), pose.hands, feet, pose.pitch, strict=True):
        outward = np.array([0.0, side, 0.0])
        shoulder = chest + outward * body.shoulder * h
        hip = pelvis + outward * 0.62 * body.hip * h
        mirrored = np.array(hand) * (1, side, 1)
        wrist = mirrored if pose.on_targets else shoulder + mirrored * body.arm * h
        ankle = foot * (1, side, 1)
        joints[name + "shoulder"], joints[name + "hip"] = shoulder, hip
        elbow_side = np.array([-0.7, 0.75 * side, -0.6])
        joints[name + "elbow"], joints[name + "wrist"] = _bend(shoulder, wrist, upper, fore, elbow_side)
        joints[name + "knee"], joints[name + "ankle"] = _bend(
            hip, ankle, thigh, shin, np.array([1.0, 0.12 * side, 0.1])
        )
        toe = np.array([np.cos(pitch), 0.12 * side, np.sin(pitch)]) * 0.1 * h
        joints[name + "toe"] = joints[name + "ankle"] + toe - (0, 0, 0.025 * h)
    return joints


def _standing_height(feet: list[NDArray[np.float64]], leg: float) -> float:
    """Height of the hip at which the lower foot's leg is all but straight."""
    reach = [foot[2] + np.sqrt(max(leg**2 - foot[0] ** 2, 0.0)) for foot in feet]
    return 0.985 * float(min(reach))


def _bend(
    root: NDArray[np.float64], target: ArrayLike, first: float, second: float, pole: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Middle and end of a two-bone limb that reaches for ``target`` and bends towards ``pole``."""
    reach = np.asarray(target) - root
    wanted = math.hypot(*reach) or 1e-6
    distance = min(max(wanted, abs(first - second) + 1e-3), 0.999 * (first + second))
    along = reach / wanted
    share = (first**2 - second**2 + distance**2) / (2 * distance)
    off = math.sqrt(max(first**2 - share**2, 0.0))
    across = pole - along * float(pole @ along)
    across /= math.hypot(*across) or 1.0
    return root + along * share + across * off, root + along * distance
