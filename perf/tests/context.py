"""Where the modules and the commands are, for the tests."""

import sys
from pathlib import Path

PERF = Path(__file__).resolve().parents[1]
ROOT = PERF.parent
LIB = PERF / "lib"
sys.path.insert(0, str(LIB))
