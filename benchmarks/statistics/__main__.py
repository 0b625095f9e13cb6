"""Simulate what embedx claims about its statistics, and write STATISTICS.md.

    python benchmarks/statistics                  all parts, in less than 20 minutes on two cores
    python benchmarks/statistics intervals ranking   some parts
    python benchmarks/statistics --scale 0.1      fewer trials

A part is a module of this folder, named in claims.py, with `simulate(scale, seed)`, which returns claims. The first
paragraph of its docstring introduces its table. As many parts run at a time as there are cores. Parts that are not run
keep their table.
"""

import argparse
import importlib
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # for page
from claims import PARTS
from page import commit, write_part

from embedx.bench.speed.roofline import name_device

PAGE = Path(__file__).parents[2] / "STATISTICS.md"
HEAD = "| simulation | wanted | measured | trials | holds |\n|---|---|---|---|---|"


def main() -> int:
    """Run the parts, write their tables, and return 1 if a claim does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)} [default: all]")
    parser.add_argument("--scale", type=float, default=1.0, help="factor for the number of trials [default: 1]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}; parts are {', '.join(PARTS)}")
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes of the pool: one core each
    holds, version = True, commit()  # before the page changes
    with ProcessPoolExecutor() as pool:
        runs = [pool.submit(run, name, options.scale, options.seed, version) for name in options.parts or PARTS]
        for result in as_completed(runs):
            name, text, part_holds = result.result()
            write_part(name.replace("_", " ").capitalize(), text, options.out)
            print(f"{options.out}: {name}{'' if part_holds else ': a claim does NOT hold'}")
            holds &= part_holds
    return int(not holds)


def run(name: str, scale: float, seed: int, version: str) -> tuple[str, str, bool]:
    """Simulate a part; return its name, its text, and whether all its claims hold."""
    begun = time.monotonic()
    module = importlib.import_module(name)
    claims = module.simulate(scale, seed)
    introduction = (module.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    made = f"Seed {seed}, scale {scale:g}, {time.monotonic() - begun:.0f} s, {name_device('cpu')}, commit {version}."
    text = "\n".join([introduction, "", made, "", HEAD, *(claim.row() for claim in claims)])
    return name, text, all(claim.holds for claim in claims)


if __name__ == "__main__":
    sys.exit(main())
