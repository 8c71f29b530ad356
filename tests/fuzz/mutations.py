"""Damaged inputs: mutations of files by their bytes, and of what is in JSON and YAML by its structure."""

import json
import zlib
from typing import Any

import yaml
from hypothesis import strategies as st

DEEP = "DEEPLY-NESTED"  # becomes lists in lists when it is written: json.dumps itself could not
SCALARS = st.one_of(
    st.sampled_from([None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, 0.5, 1e9, 1e308, -1e308]),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), DEEP]),
    st.sampled_from(["", "1", "nan", "person", ".", "..", "../../other.png", "/etc/passwd", "a\0b", "é\n", "\ud800"]),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=4), children, max_size=4),
    max_leaves=6,
)


def mostly(usual: st.SearchStrategy, *rare: st.SearchStrategy, once_in: int) -> st.SearchStrategy:
    """Draw what is rare once in so many times; `one_of` gives all the same chance, also what it is given twice."""
    return st.integers(1, once_in).flatmap(lambda number: st.one_of(rare) if number == once_in else usual)


# Most changes are small ones: what they make is still read, and what is read can be compared.
CHANGES = (*["change", "swap"] * 3, "replace", "delete", "double", "rename")
# Pixels within and around the small images of the tests, some of them nonsense.
NUMBERS = mostly(st.integers(-300, 300) | st.floats(-300, 300), st.floats(), once_in=60)


@st.composite
def mutated(draw: st.DrawFn, content: Any, most: int = 3) -> Any:
    """Change one to ``most`` places of a document; the document itself stays as it is."""
    for _ in range(draw(st.integers(1, most))):
        content = _mutated(draw, content)
    return content


def _mutated(draw: st.DrawFn, node: Any) -> Any:
    if not node or not isinstance(node, dict | list) or draw(st.integers(0, 99)) == 99:
        return draw(VALUES)
    keys = list(node) if isinstance(node, dict) else range(len(node))
    node = node.copy()
    # Most of what is said stands deep.
    deeper = [key for key in keys if isinstance(node[key], dict | list)]
    if deeper and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(deeper))
        node[key] = _mutated(draw, node[key])
        return node
    key = draw(st.sampled_from(keys))
    change = draw(st.sampled_from(CHANGES))
    if change == "delete":
        del node[key]
    elif change == "double" and isinstance(node, list):
        node.insert(key, node[key])
    elif change == "swap":
        other = draw(st.sampled_from(keys))
        node[key], node[other] = node[other], node[key]
    elif change == "change" and type(node[key]) in (int, float) and abs(node[key]) < 1e300:
        node[key] = draw(st.sampled_from([node[key] + 1, node[key] - 1, node[key] + 0.5, -node[key], 1000 * node[key]]))
    elif change == "change" and isinstance(node[key], str):
        node[key] = draw(mutated_bytes(node[key].encode(errors="ignore"), 1)).decode(errors="replace")
    elif change == "rename" and isinstance(node, dict):
        node[draw(st.sampled_from(keys) | st.text(max_size=4))] = node.pop(key)
    else:
        node[key] = draw(VALUES)
    return node


def to_json(content: Any) -> bytes:
    """Write JSON; NaN and infinities as Python does."""
    return json.dumps(content).replace(f'"{DEEP}"', "[" * 20_000 + "]" * 20_000).encode()


def to_yaml(content: Any) -> bytes:
    """Write YAML."""
    return yaml.safe_dump(content).replace(DEEP, "[" * 500 + "]" * 500).encode(errors="surrogatepass")


@st.composite
def mutated_bytes(draw: st.DrawFn, data: bytes, most: int = 4) -> bytes:
    """Change one to ``most`` places of a file: cut, overwrite, insert, delete, repeat."""
    for _ in range(draw(st.integers(1, most))):
        # Heads and tails of files decide on more than what is between.
        at = draw(st.integers(0, len(data)) | st.integers(0, min(64, len(data))))
        end = min(len(data), at + draw(st.integers(0, 8) | st.integers(0, len(data))))
        change = draw(st.sampled_from(["flip", "overwrite", "insert", "delete", "repeat", "cut"]))
        if change == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        elif change == "overwrite":
            new = draw(
                st.sampled_from([b"\0", b"\xff", b"\x80\0\0\0", b"\xff\xff\xff\xff", b"9"]) | st.binary(max_size=8)
            )
            data = data[:at] + new + data[at + len(new) :]
        elif change == "insert":
            data = data[:at] + draw(st.binary(min_size=1, max_size=8)) + data[at:]
        elif change == "delete":
            data = data[:at] + data[end:]
        elif change == "repeat":
            data = data[:end] + data[at:end] + data[end:]
        elif change == "cut":
            data = data[:at]
    return data


def documents(content: Any) -> st.SearchStrategy[bytes]:
    """JSON files that are nearly ``content``, or nothing like it."""
    plain = json.dumps(content).encode()
    made = VALUES.map(to_json) | st.binary(max_size=64)
    # Most mutations of bytes end in the JSON parser.
    return mostly(mutated(content).map(to_json), mutated_bytes(plain), made, once_in=8)


def mend_png(data: bytes) -> bytes:
    """Give the chunks of a damaged PNG right checksums, so that what is in them is looked at."""
    out, at = data[:8], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        body = data[at + 4 : at + 8 + length]
        out += data[at : at + 4] + body + zlib.crc32(body).to_bytes(4)
        at += 12 + length
    return out


def damaged_pngs(data: bytes) -> st.SearchStrategy[bytes]:
    """PNG files that are nearly ``data``, or nothing like it."""
    return mostly(mutated_bytes(data, 2).map(mend_png), mutated_bytes(data), st.binary(max_size=64), once_in=4)
