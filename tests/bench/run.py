"""Runs the benchmarks of training's speed and prints one table; also written to bench.csv in the build folder.

    run.py BUILD_FOLDER [--only NAME ...] [--rounds N] [--seconds S] [--check] [--lightning PYTHON]

Needs a Python with torch, h5py and numpy, and for epochs, memory, overhead and start one with pytorch_lightning too.
Everything runs on two cores, the sides by turns (interleaved.py says how). Where a ratio is of times, one under 1 is in
lab's favour. Not tests: no figure makes it fail. --check times nothing: it holds the sides to equal work, and fails
where their losses do not go down alike.
"""

import argparse
import contextlib
import functools
import os
import pathlib
import sys
import tempfile

import all_reduce
import counts
import epoch
import guard
import overhead
import overlap
import rank_count
import start
import step_time
from interleaved import Effort, Table


def benchmarks(lightning):
    return {
        "counts": counts.counts,
        "steps": step_time.steps,
        "communication": step_time.communication,
        "all_reduce": all_reduce.all_reduce,
        "overlap": overlap.overlap,
        "oversubscribed": rank_count.oversubscribed,
        "canonical": rank_count.canonical,
        "overhead": functools.partial(overhead.overhead, lightning=lightning),
        "precision": overhead.precision,
        "guard": guard.guard,
        "start": functools.partial(start.start, lightning=lightning),
        "epochs": functools.partial(epoch.epochs, lightning=lightning),
        "memory": functools.partial(epoch.memory, lightning=lightning),
    }


def gather_free_memory():
    """So that all sides get the like of it: where free memory lies in small pieces, those that start first are up to a tenth
    slower. Only root may; without it a control that is off tells."""
    for name, value in (("drop_caches", "3"), ("compact_memory", "1")):
        with contextlib.suppress(OSError), open(f"/proc/sys/vm/{name}", "w", encoding="utf-8") as file:
            file.write(value)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--only", action="append", choices=benchmarks(None))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="of a block of steps or sums; 12 in a round")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--lightning", default=sys.executable, metavar="PYTHON")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])  # and so for all that is started
    os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    build = arguments.build.resolve()
    with tempfile.TemporaryDirectory() as folder:
        table = Table(build / "bench.csv")
        if arguments.check:
            step_time.check(build, folder, table)
            return
        for name, measure in benchmarks(arguments.lightning).items():
            if not arguments.only or name in arguments.only:
                gather_free_memory()
                measure(build, pathlib.Path(folder), Effort(arguments.rounds, arguments.seconds), table)


if __name__ == "__main__":
    main()
