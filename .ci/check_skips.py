"""Fails if tests of the reference data were skipped although the data are there."""

from __future__ import annotations

import os
import sys
import xml.etree.ElementTree as ET

REASON = "LRA_BENCH_DATA names no folder"


def main() -> int:
    cases = list(ET.parse(sys.argv[1]).iter("testcase"))
    reasons = [[s.get("message") or "" for s in case.iter("skipped")] for case in cases]
    skipped = [texts for texts in reasons if any(REASON in text for text in texts)]
    available = bool(os.environ.get("LRA_BENCH_DATA"))
    print(f"{len(cases)} tests; {len(skipped)} skipped for want of reference data; data there: {available}")
    if not cases:
        print("No test was run.")
        return 1
    return 1 if available and skipped else 0


if __name__ == "__main__":
    sys.exit(main())
