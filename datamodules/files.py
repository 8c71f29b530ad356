"""Reading the JSON files that datasets come with."""

import json
from pathlib import Path
from typing import Any

from errors import UserError


def read_json(path: Path, purpose: str) -> Any:
    """Read a JSON file.

    Raises:
        UserError: if it is missing or cut off, saying what it is for.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; {purpose}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}") from None
