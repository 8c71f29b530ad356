"""Command line: ``python -m datamodules.streetscenes --layout cityscapes --output DIR``."""

import argparse
import sys

from .writing import LAYOUTS, write


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write height x width, such as 160x320") from None
    return height, width


def main(arguments: list[str] | None = None) -> int:
    """Draw a set; returns the exit status, 2 for wrong arguments."""
    parser = argparse.ArgumentParser("python -m datamodules.streetscenes", description="Draw the StreetScenes dataset.")
    parser.add_argument("--layout", choices=LAYOUTS, required=True, help="dataset layout to write")
    parser.add_argument("--output", required=True, help="folder to create")
    parser.add_argument("--train", type=int, default=400, help="training images (default: %(default)s)")
    parser.add_argument("--val", type=int, default=100, help="validation images (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed is another set (default: %(default)s)")
    parser.add_argument("--size", type=_size, default=(160, 320), help="height x width in pixels (default: 160x320)")
    parser.add_argument("--no-people", dest="people", action="store_false", help="streets without people and riders")
    parser.add_argument("--workers", type=int, help="processes that draw (default: one per core)")
    try:
        write(**vars(parser.parse_args(arguments)))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
