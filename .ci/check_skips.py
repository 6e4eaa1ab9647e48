"""Fails if tests were skipped for want of something that is there: reference data, or a browser."""

from __future__ import annotations

import os
import shutil
import sys
import xml.etree.ElementTree as ET

WANTS = {
    "LRA_BENCH_DATA names no folder": ("reference data", bool(os.environ.get("LRA_BENCH_DATA"))),
    "no Chromium here": ("a browser", shutil.which("chromium") is not None),
    "no playwright": ("a browser's driver", True),  # the test extra brings it
}
"""What a skipped test says: what it lacks, and whether it is there."""


def main() -> int:
    cases = list(ET.parse(sys.argv[1]).iter("testcase"))
    reasons = [skip.get("message") or "" for case in cases for skip in case.iter("skipped")]
    print(f"{len(cases)} tests, {len(reasons)} skipped")
    wrong = not cases
    for reason, (what, there) in WANTS.items():
        skipped = sum(reason in text for text in reasons)
        print(f"for want of {what}: {skipped} skipped; it is {'there' if there else 'absent'}")
        wrong = wrong or bool(there and skipped)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
