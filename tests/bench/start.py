"""From the start of mpirun to the end of the first step, over Lightning's and over an empty program's; and the calls that
each rank but the first makes to file systems on the way there, which thousands of ranks would make at once."""

import re
import shutil
import subprocess

import epoch
import startup
from interleaved import Row, ratio
from sides import CONFIGS, DIGITS, HERE, settings

RANKS = 2


class Started:
    """A side that is started anew each time."""

    def __init__(self, command, marker):
        self._command, self._marker = list(map(str, command)), marker

    def unit(self):
        return startup.seconds_until(self._command, self._marker)


def lab_train(build, folder, *before, values=()):
    values = {"trainer.init.default_root_dir": folder / "runs", "config.data": DIGITS, **dict(values)}
    return ["mpirun", "-np", RANKS, *before, build / "lab_train", CONFIGS / "mnist.toml", "-o", *settings(values)]


def start(build, folder, effort, table, lightning):
    lab = Started(lab_train(build, folder), "first step done")
    empty = Started(["mpirun", "-np", RANKS, build / "empty_mpi_bench"], None)
    sides = {f"first step, np {RANKS}: lab / empty mpirun": (empty, "<= 3")}
    if reason := epoch.no_lightning(lightning):
        table.note(f"no start of Lightning: {reason}")
    else:
        peer = [lightning, HERE / "lightning_steps.py", DIGITS, 32, RANKS, folder / "lightning", "start"]
        sides[f"first step, np {RANKS}: lab / Lightning"] = Started(peer, "first_step_s"), "<= 0.12"
    for side in (lab, *(side for side, _ in sides.values())):
        side.unit()  # brings its files into memory
    controls = [ratio(lab, lab) for _ in range(effort.rounds)]
    for name, (side, target) in sides.items():
        table.add(Row(name, [ratio(lab, side) for _ in range(effort.rounds)], controls, target))
    file_calls(build, folder, table)


def file_calls(build, folder, table):
    """Of a whole run of one step, which is a little more than what comes before it, beside those of an empty program. Calls
    on what is open already (fstat is one with an empty path) look nothing up, and do not count."""
    if not shutil.which("strace"):
        table.note("no calls to file systems: strace is not there")
        return
    traced = ["bash", "-c", 'exec strace -f -e trace=%file -o "$0/calls.$OMPI_COMM_WORLD_RANK" "$@"', folder]
    commands = {"an empty program": ["mpirun", "-np", RANKS, *traced, build / "empty_mpi_bench"],
                "a run of one step": lab_train(build, folder, *traced, values={"trainer.init.max_steps": 1})}
    for name, command in commands.items():
        subprocess.run(list(map(str, command)), check=True, capture_output=True, env=startup.ENVIRONMENT)
        for rank in range(RANKS):
            text = (folder / f"calls.{rank}").read_text(errors="replace")
            calls = [call for call in re.findall(r"^\d+ +(\w+\(.*)", text, re.MULTILINE) if '""' not in call]
            target = "<= 500" if rank and "step" in name else None
            table.add(Row(f"calls to file systems by {name}, rank {rank}", [len(calls)], [], target))
            table.note(f"by place: {places(calls)}")


def places(calls):
    """How many calls are for what lies where."""
    found = {}
    for call in calls:
        path = re.search(r'"([^"]*)"', call)
        top = "/".join(path.group(1).split("/")[:3]) if path else "?"
        kind = f"{top}{' (not there)' if 'ENOENT' in call else ''}"
        found[kind] = found.get(kind, 0) + 1
    return ", ".join(f"{count} {kind}" for kind, count in sorted(found.items(), key=lambda item: -item[1])[:12])
