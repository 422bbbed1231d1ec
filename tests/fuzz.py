"""How many made-up files the fuzz tests read."""

from __future__ import annotations

import os

CASES = int(os.environ.get("FUZZ_CASES", "1000"))
