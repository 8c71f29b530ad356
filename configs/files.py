"""Reading YAML files."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from errors import UserError, nearest

LARGEST = 100_000  # nodes: a few lines can name so many by aliases of aliases that no machine holds them


def read_mapping(kind: str, path: Path, load: Callable[[Path], Any]) -> Any:
    """Read a YAML file of keys and values.

    Args:
        kind: what the file is, for the error.
        path: the file.
        load: reads it, and makes plain values alone.

    Raises:
        UserError: it does not exist, cannot be read, or holds something else.
    """
    try:
        if _size(yaml.compose(path.read_bytes(), yaml.SafeLoader), {}) > LARGEST:
            raise ValueError(f"it has more than {LARGEST} values")
        content = load(path)
    except FileNotFoundError:
        choices = sorted(str(p) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise UserError(f"{kind} {path} does not exist{nearest(str(path), choices) if choices else ''}") from None
    except Exception as error:  # PyYAML has one for each kind of value that can be wrong
        raise UserError(f"{kind} {path} cannot be read as YAML: {error}") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{kind} {path} holds no mapping of keys to values")
    return content


def _size(node: yaml.Node | tuple[yaml.Node, yaml.Node] | None, known: dict[int, float]) -> float:
    """Count the values of a document whose aliases are written out; infinite where one is within itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        children = node if isinstance(node, tuple) else getattr(node, "value", "")
        known[id(node)] = 1 if isinstance(children, str) else 1 + sum(_size(child, known) for child in children)
    return known[id(node)]
