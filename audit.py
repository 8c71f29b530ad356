"""Look for faces in an anonymized copy and in its originals, and show the worst of those that are still there."""

import argparse
from pathlib import Path

from errors import script

EPILOG = """A face counts as inside when its centre lies in the box of a region that was anonymized; a body's box
holds pixels beside the body too, which are as recorded. Elsewhere nothing was anonymized.
DIR/audit.json has the counts before and after, of every image too. DIR/audit.png shows the faces that were found in
the copy with the highest scores, as they look in the copy. A face that is found may well be nobody's: a blurred face
is often found, a generated one should be.

example: python audit.py data/coco_blurred --score 0.5
"""


@script
def main() -> None:
    """Audit the copy that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("copy", type=Path, metavar="DIR", help="folder that anonymize.py wrote")
    parser.add_argument("--detector", default="centerface", help="centerface (default) or torchscript:PATH")
    parser.add_argument("--score", type=float, default=0.3, help="least score of a face (default: 0.3)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    parser.add_argument("--workers", type=int, help="processes (default: one for each core)")
    a = parser.parse_args()

    from processes import cores

    audit(a.copy, a.detector, a.score, a.device, cores() if a.workers is None else a.workers)


def audit(copy: Path, detector: str, score: float, device: str, workers: int) -> None:
    """Write ``audit.json`` and ``audit.png`` into a copy and say what they have.

    Raises:
        UserError: the detector does not work here, the folder is no finished copy, or it or its originals have changed.
    """
    from anonymization.detectors import face_detector
    from reporting.audit import write_audit

    settings = {"name": detector, "score": score}
    report = write_audit(copy, face_detector(detector, score, device), settings, workers)
    for when in ("before", "after"):
        print(
            f"faces found {when}: {report[when]['inside']} in boxes of regions, {report[when]['elsewhere']} elsewhere"
        )
    print("a blurred face is often found, a generated one should be: look at the worst cases")
    print(f"audit in {copy / 'audit.json'}, worst cases in {copy / 'audit.png'}")


if __name__ == "__main__":
    main()
