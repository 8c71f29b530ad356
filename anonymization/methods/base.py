"""What a method can be. The kinds differ in what the engine may spare itself."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Fill:
    """A constant, reading no pixels.

    Attributes:
        value: Grey level, 0 to 255.
    """

    value: int


@dataclass(frozen=True)
class Separable:
    """A linear map of the crop, the same for rows and columns: matrix(h) @ crop @ matrix(w).T.

    Attributes:
        matrix: Gives the map of a crop axis of n pixels, float32 [n, n]: rows are non-negative and sum to 1.
    """

    matrix: Callable[[int], Tensor]


CropMethod = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Anything else, a function of the crops of P people at once.

Takes crops (float32 [P, 3, h, w], whole grey levels 0 to 255), masks (bool [P, 1, h, w], True where the result
is pasted) and seeds (int64 [P], on the CPU). Returns float [P, 3, h, w] in grey levels.
"""

Method = Fill | Separable | CropMethod
