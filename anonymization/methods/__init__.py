"""The anonymization methods, by the name they have in a condition."""

from anonymization.methods.base import Fill, Method, Separable
from anonymization.methods.blur import blur, blur_matrix
from anonymization.methods.mask_out import GREY
from anonymization.methods.pixelate import mosaic_matrix, pixelate

METHODS: dict[str, Method] = {
    "blur": Separable(blur_matrix, blur),
    "mask_out": Fill(GREY),
    "pixelate": Separable(mosaic_matrix, pixelate),
}
