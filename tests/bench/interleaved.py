"""Plays the sides of a benchmark against each other, in one job and by turns, so that a machine that is now fast and
now slow is so for both: only ratios are told.

A side is a group of processes that do so much work as they are told over a local socket and say how long it took; while
one works, the others wait and use no processor. A round is A-B-B-A, of the shortest of some blocks each; a group's time
is that of its slowest rank. Every comparison has a control: A against a second group of A, which should be 1.
"""

import collections
import csv
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import tempfile
import time

SOCKET = "LAB_BENCH_SOCKET"
START_SECONDS = 600  # until all ranks of a group wait for work: a busy machine may take minutes to import torch


class Line:
    """A rank's end. told() is how much to do next, 0 for no more; say() is what came of it: seconds=..., loss=..."""

    def __init__(self):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(os.environ[SOCKET])
        self._lines = self._socket.makefile("r", encoding="utf-8")
        self._send(str(os.getpid()))

    def told(self):
        return int(self._lines.readline() or 0)

    def say(self, **values):
        self._send(" ".join(f"{name}={value}" for name, value in values.items()))

    def _send(self, words):
        self._socket.sendall(f"{words}\n".encode())


def serve(work):
    """What a rank does all its life: work(count) returns what there is to say beside the seconds."""
    line = Line()
    while count := line.told():
        start = time.perf_counter()
        values = work(count)
        line.say(seconds=time.perf_counter() - start, **values)


class Group:
    """A side: its ranks, started by one command or by one for each rank, and ended when its with block is left."""

    def __init__(self, name, commands, ranks, environment=None):
        self.name = name
        self._ranks = ranks
        self._folder = tempfile.TemporaryDirectory()
        self._output = open(pathlib.Path(self._folder.name) / "output", "w+", encoding="utf-8")
        self._server = socket.socket(socket.AF_UNIX)
        path = f"{self._folder.name}/socket"
        self._server.bind(path)
        self._server.listen(ranks)
        self._server.settimeout(1)
        environment = {**os.environ, **(environment or {}), SOCKET: path,
                       "LAB_BENCH_STORE": f"{self._folder.name}/store"}
        places = [{"RANK": i, "WORLD_SIZE": ranks} for i in range(ranks)] if len(commands) > 1 else [{}]
        self._processes = [self._started(command, {**environment, **place})
                           for command, place in zip(commands, places, strict=True)]
        self._lines, self.pids = [], []

    def _started(self, command, environment):
        return subprocess.Popen(list(map(str, command)), env={name: str(value) for name, value in environment.items()},
                                stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT,
                                start_new_session=True)

    def __enter__(self):
        try:
            end = time.monotonic() + START_SECONDS
            while len(self._lines) < self._ranks:
                try:
                    self._lines.append(self._server.accept()[0].makefile("rw", encoding="utf-8"))
                    self.pids.append(int(self._lines[-1].readline()))
                except TimeoutError:
                    if time.monotonic() > end or any(process.poll() is not None for process in self._processes):
                        raise self._failed(f"{len(self._lines)} of {self._ranks} ranks came") from None
            return self
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        for line in self._lines:
            line.close()
        self._server.close()
        for process in self._processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._output.close()
        self._folder.cleanup()

    def run(self, count):
        """The slowest rank's seconds, and what else all said, as means over the ranks."""
        for line in self._lines:
            line.write(f"{count}\n")
            line.flush()
        answers = [line.readline() for line in self._lines]
        if not all(answers):
            raise self._failed("a rank is gone")
        found = [dict(re.findall(r"(\w+)=(\S+)", answer)) for answer in answers]
        values = {name: statistics.mean(float(rank[name]) for rank in found) for name in found[0]}
        return {**values, "seconds": max(float(rank["seconds"]) for rank in found)}

    def _failed(self, what):
        self._output.flush()
        self._output.seek(0)
        return RuntimeError(f"{self.name}: {what}\n{self._output.read()[-3000:]}")


class Pace:
    """How much work a block of one group is: about so many seconds of it, found once; then the time of one unit."""

    def __init__(self, group, effort):
        self.group, self._blocks = group, effort.blocks
        self._count = 1
        if effort.block_seconds:
            group.run(2)  # the first touches memory, opens files, makes buckets
            self._count = max(1, round(3 * effort.block_seconds / group.run(3)["seconds"]))

    def unit(self):
        return min(self.group.run(self._count)["seconds"] for _ in range(self._blocks)) / self._count


# How long to measure. block_seconds 0: a block is one unit of work, and nothing is warmed up.
Effort = collections.namedtuple("Effort", "rounds block_seconds blocks", defaults=(7, 0.3, 3))
# One value and one control for each round; of what another program summed up, the least, the median and the most.
# target: "<= 0.45", or None.
Row = collections.namedtuple("Row", "name values control target summed", defaults=(False,))
# Of two groups: the ratio of a's time to b's, through change() if that is not None.
Comparison = collections.namedtuple("Comparison", "name a b target change", defaults=(None, None))


def ratio(a, b):
    first, second, third, fourth = a.unit(), b.unit(), b.unit(), a.unit()
    return (first + fourth) / (second + third)


def play(comparisons, control, effort):
    """A Row for each comparison. control: two groups of one kind, whose ratio stands beside all of them."""
    groups = {id(group): group for a, b in [(c.a, c.b) for c in comparisons] + [control] for group in (a, b)}
    paces = {key: Pace(group, effort) for key, group in groups.items()}

    def played(a, b):
        return ratio(paces[id(a)], paces[id(b)])

    found, controls = [[] for _ in comparisons], []
    for _ in range(effort.rounds):
        controls.append(played(*control))
        for values, comparison in zip(found, comparisons):
            values.append((comparison.change or float)(played(comparison.a, comparison.b)))
    return [Row(comparison.name, values, controls, comparison.target)
            for values, comparison in zip(found, comparisons)]


def reached(value, target):
    sign, bound = target.split()
    return value <= float(bound) if sign == "<=" else value >= float(bound)


def told(row):
    """The columns of a row, as text."""
    def spread(values):
        if not values:
            return [""] * 3
        return [f"{value:.3f}" for value in (statistics.median(values), min(values), max(values))]

    within = ""
    if row.target and row.summed:
        within = "yes" if reached(statistics.median(row.values), row.target) else "no"
    elif row.target:
        within = f"{sum(reached(value, row.target) for value in row.values)}/{len(row.values)}"
    return [row.name, *spread(row.values), *spread(row.control), row.target or "", within]


class Table:
    """Prints each row as it comes, and keeps them all in a CSV file."""

    def __init__(self, path):
        self._file = open(path, "w", newline="", encoding="utf-8")
        self._csv = csv.writer(self._file)
        self._csv.writerow(["name", "median", "least", "most", "control", "control least", "control most", "target",
                            "rounds within"])
        print(f"{'':60} {'median':>8} {'range':>18}  {'A/A control':>25}  target, rounds within it")

    def add(self, row):
        words = told(row)
        self._csv.writerow(words)
        self._file.flush()
        name, median, least, most, middle, low, high, target, within = words
        control = f"{middle} ({low} to {high})" if middle else ""
        print(f"{name:60} {median:>8} {least:>8} to {most:>6}  {control:>25}  {target} {within}", flush=True)
        if row.control and not 0.95 <= statistics.median(row.control) <= 1.05:
            print("    its control is off: the machine was too busy for a figure; repeat it")

    def add_all(self, rows):
        for row in rows:
            self.add(row)

    def note(self, words):
        """A count that does not depend on the machine's speed, or what was left out and why."""
        self._csv.writerow([words])
        self._file.flush()
        print(f"    {words}", flush=True)
