"""The anonymization conditions of the study: which region of a person is replaced, and by which method."""

from dataclasses import dataclass

from errors import UserError, nearest

CONDITIONS = (
    "original",
    "face/blur",
    "face/mask_out",
    "face/pixelate",
    "body/blur",
    "body/mask_out",
    "body/pixelate",
)


@dataclass(frozen=True)
class Condition:
    """What happens to the people of the training images.

    Attributes:
        region: ``"none"``, ``"face"`` or ``"body"``.
        method: ``"original"`` (nothing happens, region ``"none"``) or a key of ``methods.METHODS``.
    """

    region: str
    method: str

    def __str__(self) -> str:
        return self.method if self.region == "none" else f"{self.region}/{self.method}"


def parse_condition(name: str) -> Condition:
    """Read a condition name such as ``"body/blur"``, one of ``CONDITIONS``.

    Raises:
        UserError: The name is not in ``CONDITIONS``.
    """
    if name not in CONDITIONS:
        raise UserError(f"condition: unknown '{name}'{nearest(name, CONDITIONS)}")
    if name == "original":
        return Condition("none", "original")
    return Condition(*name.split("/"))
