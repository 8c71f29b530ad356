"""The anonymization conditions of the study: which region of a person is replaced, and by which method."""

from dataclasses import dataclass

from errors import UserError, nearest

CONDITIONS = (
    "original",
    "face/blur",
    "face/mask_out",
    "face/pixelate",
    "face/realistic",
    "face/realistic_refined",
    "body/blur",
    "body/mask_out",
    "body/pixelate",
    "body/realistic",
    "body/realistic_hm",
    "body/realistic_hm_lo",
)


@dataclass(frozen=True)
class Condition:
    """What happens to the people of the training images.

    Attributes:
        region: ``"none"``, ``"face"`` or ``"body"``.
        method: ``"original"`` (nothing happens, region ``"none"``), or a key of ``methods.METHODS`` or of
            ``engine.REALISTIC``.
    """

    region: str
    method: str

    @property
    def generators(self) -> tuple[str, ...]:
        """The generators that draw the people, as ``options.Generators`` calls them, in their order; mostly none."""
        if not self.method.startswith("realistic"):
            return ()
        return (self.region, "face_refined") if self.method == "realistic_refined" else (self.region,)

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
