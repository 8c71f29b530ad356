"""Image anonymization: regions -> crops -> methods -> paste. Plain torch: knows no dataset, no trainer."""

from anonymization.conditions import CONDITIONS, Condition, parse_condition
from anonymization.engine import Anonymizer
from anonymization.regions import Regions, body_regions, face_regions, person_seed

__all__ = [
    "CONDITIONS",
    "Anonymizer",
    "Condition",
    "Regions",
    "body_regions",
    "face_regions",
    "parse_condition",
    "person_seed",
]
