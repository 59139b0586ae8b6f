"""Make the tables of data/theory again: `.venv/bin/python ci/theory_tables.py [NAME ...]`, all or those named. Takes
about three minutes.

Needed after a change of what they are computed with: a test compares some of their rows with the code.
"""

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small matrices: more threads only take turns

from bcebook.chapters import bias_saturates  # noqa: E402
from bcebook.report import codes, orthogonal, tails  # noqa: E402

TABLES = (
    codes.TABLE,
    codes.SHARED_TABLE,
    codes.BOUND_TABLE,
    tails.THRESHOLDS,
    tails.SIDES,
    tails.LONG_TAILS,
    bias_saturates.LOWER,
    orthogonal.MINIMISED,
)

if __name__ == "__main__":
    for table in TABLES:
        if table.name in sys.argv[1:] or not sys.argv[1:]:
            table.write()
            print(table.path)
