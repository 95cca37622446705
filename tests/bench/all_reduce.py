"""What a sum over two ranks takes against gloo, and, by all_reduce_bench, against Open MPI and the memory itself."""

import re
import subprocess

from interleaved import Comparison, Row, play
from sides import Sides

SIZES = {4 << 10: ("4 KiB", "<= 0.02"), 1 << 20: ("1 MiB", "<= 0.10"), 25 << 20: ("25 MiB", "<= 0.30"),
         100 << 20: ("100 MiB", "<= 0.30")}
# Targets of all_reduce_bench's ratios, by what it calls them.
OVER_MPI = {4 << 10: "<= 0.6", 1 << 20: "<= 0.15", 25 << 20: "<= 0.20", 100 << 20: "<= 0.30"}
MEMORY = {1 << 20: ">= 0.70", 25 << 20: ">= 0.70", 100 << 20: ">= 0.70"}


def all_reduce(build, folder, effort, table):
    for size, (name, target) in SIZES.items():
        with Sides(build, folder) as sides:
            lab, again = sides.sums(size), sides.sums(size)
            gloo, direct = sides.ddp("all_reduce", size), sides.c10d("all_reduce", size)
            comparisons = [Comparison(f"all-reduce, {name}: lab / gloo", lab, gloo, target)]
            if direct:
                comparisons.append(Comparison(f"all-reduce, {name}: lab / gloo from C++", lab, direct))
            table.add_all(play(comparisons, (lab, again), effort))
    program = build / "all_reduce_bench"
    if not program.exists():
        table.note(f"{program} is not built: nothing on Open MPI and the memory")
        return
    command = ["mpirun", "-np", 2, "--oversubscribe", "--bind-to", "none", program, effort.rounds, *SIZES]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    table.add_all(rows_of(done.stdout))


def rows_of(output):
    """all_reduce_bench's lines: `BYTES bytes ... WHAT MEDIAN [LEAST-MOST] ... control MEDIAN [LEAST-MOST]`."""
    rows = []
    for line in output.splitlines():
        size = re.match(r"\s*(\d+) bytes", line)
        if not size:
            continue
        size = int(size.group(1))
        found = {what: [float(least), float(median), float(most)] for what, median, least, most in re.findall(
            r"((?:copied )?over MPI|memory over it|control) ([\d.]+) \[([\d.]+)-([\d.]+)\]", line)}
        control = found.pop("control", [])
        targets = {"over MPI": OVER_MPI, "memory over it": MEMORY}
        for what, values in found.items():
            target = targets.get(what, {}).get(size)
            rows.append(Row(f"all-reduce, {SIZES[size][0]}: {what}", values, control, target, summed=True))
    return rows
