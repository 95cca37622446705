"""Start-up: from the start of mpirun to the end of the first optimizer step, against a peer and an empty mpirun.

    startup.py BUILD_FOLDER [--rounds N] [--peer COMMAND ...]

The peer is a command that prints a line beginning with `first_step_s` when its first optimizer step is done. The sides run in
A-B-B-A rounds on the same cores; printed are the median ratio of the rounds and its range, and an A/A control of lab
against itself. Results also go to startup.csv in the build folder. A benchmark, not a test.
"""

import argparse
import csv
import os
import pathlib
import signal
import statistics
import subprocess
import tempfile
import time

ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def seconds_until(command, marker):
    """Wall time until a line with `marker` appears (None: until the end); the process group is then ended."""
    start = time.monotonic()
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if marker and marker in line:
            break
    else:
        if marker:
            raise SystemExit("".join(lines) + f"no line with {marker!r} from {command}")
        process.wait()
    seconds = time.monotonic() - start
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return seconds


def ratios(a, b, rounds):
    """Median and range of a's time over b's, in A-B-B-A rounds."""
    found = []
    for _ in range(rounds):
        first, second, third, fourth = a(), b(), b(), a()
        found.append((first + fourth) / (second + third))
    return statistics.median(found), min(found), max(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peer", nargs=argparse.REMAINDER, default=[])
    options = parser.parse_args()
    build = pathlib.Path(options.build).resolve()
    with tempfile.TemporaryDirectory() as folder:
        lab = lambda: seconds_until(
            ["mpirun", "-np", "2", build / "lab_train", "configs/mnist.toml", "-o", "--set", f"trainer.init.default_root_dir={folder}"],
            "first step done")
        empty = lambda: seconds_until(["mpirun", "-np", "2", build / "empty_mpi_bench"], None)
        lab()
        rows = [("lab / lab (control)", *ratios(lab, lab, options.rounds)), ("lab / empty mpirun", *ratios(lab, empty, options.rounds))]
        if options.peer:
            peer = lambda: seconds_until(options.peer, "first_step_s")
            peer()
            rows.append(("lab / peer", *ratios(lab, peer, options.rounds)))
        rows.append(("seconds of lab, median of 7", statistics.median(lab() for _ in range(7)), "", ""))
    with open(build / "startup.csv", "w", newline="") as file:
        csv.writer(file).writerows([("what", "median", "least", "most"), *rows])
    for what, median, least, most in rows:
        print(f"{what:28} {median:.3f}" + (f"  ({least:.3f} to {most:.3f})" if least != "" else ""))


if __name__ == "__main__":
    main()
