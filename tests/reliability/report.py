"""Counts and seeds of reliability tests, reported to `make reliability` as one line of JSON each."""

import json
import os
import time

EVERY = int(os.environ.get("EMBEDX_EVERY", "16"))  # under `long`, a kill or a failure comes at every 16th call


def seed(default: int = 0) -> int:
    """Return EMBEDX_SEED, or the default."""
    return int(os.environ.get("EMBEDX_SEED", default))


def report(test: str, count: int, failures: int, begun: float, seed: int | None = None) -> None:
    """Append a result to the file that EMBEDX_REPORT names; `begun` is a time of time.monotonic."""
    name = os.environ.get("EMBEDX_REPORT")
    line = {
        "test": test,
        "count": count,
        "failures": failures,
        "seed": seed,
        "seconds": round(time.monotonic() - begun, 1),
    }
    print(json.dumps(line))
    if name:
        with open(name, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
