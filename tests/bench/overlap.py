"""How much of a link's time backward hides: of a stand-in's, which waits, and of a real one between two nodes."""

import re
import subprocess
import sys

from interleaved import Row
from sides import HERE

sys.path.insert(0, str(HERE.parent / "system"))

from two_nodes import reason_against, two_nodes  # noqa: E402

# The link takes about as long as backward. It is slow, and backward long, because here the cores that compute carry the
# bytes as well: with a link twice as fast and half the rows, that takes twice as much of the time to hide.
RATE, ROWS = "87mbit", 8192


def overlap(build, _, effort, table):
    program = build / "overlap_bench"
    done = subprocess.run(["mpirun", "-np", "2", "--oversubscribe", "--bind-to", "none", program, str(effort.rounds)],
                          capture_output=True, text=True, check=True)
    add(table, "hidden of a stand-in link of 0.8 backward, over the best schedule", done.stdout, ">= 0.90")
    if reason := reason_against():
        table.note(f"no two nodes: {reason}")
        return
    with two_nodes(RATE) as run:
        done = run(2, program, effort.rounds, "own", ROWS, seconds=300 * effort.rounds)
        assert done.returncode == 0, done.stdout + done.stderr
        add(table, f"hidden of {RATE} between two nodes of two ranks", done.stdout, ">= 0.90")


def add(table, name, output, target):
    assert "bits equal" in output, output
    median, least, most = re.search(r"best schedule: ([-\d.]+) \[([-\d.]+?)-([-\d.]+)\]", output).groups()
    table.add(Row(name, [float(least), float(median), float(most)], [], target, summed=True))
