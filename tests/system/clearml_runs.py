"""Runs of the programs beside a stand-in for a ClearML server: starts them, and reads back what came of them."""

import collections
import concurrent.futures
import contextlib
import csv
import datetime
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import h5py
from clearml_requests import client_of
from clearml_server import ClearmlServer
from programs import BUILD, settings

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "mnist.toml"
DIGITS = CONFIG.parents[1] / "data" / "mnist-train.h5"
SAMPLES = 640
SMALL = {"trainer.init.max_epochs": 3, "trainer.init.log_every_n_steps": 2, "config.schedule": "multi_step",
         "config.batch_size": 64, "config.train_samples": 512, "config.n_features": 4}
LONG = {"trainer.init.max_epochs": 100_000}
KEPT = ("PATH", "LANG", "LD_LIBRARY_PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS")  # of the environment of who runs the test
MACHINE = ":monitor:"  # how the titles of what is told of the machine begin


class Started:
    """A program that runs, alone or under mpirun; ended, with all that it started, when its with block is left."""

    def __init__(self, command, environment, cwd):
        self._out, self._said = (tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace")
                                 for _ in range(2))
        self.process = subprocess.Popen(list(map(str, command)), env=environment, cwd=cwd, stdout=self._out,
                                        stderr=self._said, stdin=subprocess.DEVNULL, start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill_all()

    def ranks(self):
        """The pids of the ranks."""
        if self.process.args[0] != "mpirun":
            return [self.process.pid]
        done = subprocess.run(["pgrep", "-P", str(self.process.pid), "-x", "lab_train"], capture_output=True, text=True,
                              check=False)
        return [int(pid) for pid in done.stdout.split()]

    def kill_all(self):
        """At once: nothing of it has time for a last word. Returns when all of it is gone."""
        if self.process.poll() is not None:
            return
        pids = [*self.ranks(), self.process.pid]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        wait_until(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in pids), f"the end of {pids}")

    def signal(self, number):
        os.kill(self.process.pid, number)

    def wait(self, seconds=300):
        self.process.wait(seconds)
        ended = time.time()
        for file in (self._out, self._said):
            file.seek(0)
        return Done(self.process.returncode, self._out.read(), self._said.read(), ended)


Done = collections.namedtuple("Done", "code out said ended")  # standard output, standard error, seconds since 1970


class Place:
    """A user's machine: a folder for all that is written, and an environment that says nothing but what is given."""

    def __init__(self, folder, server=None, **environment):
        self.folder = pathlib.Path(folder)
        self.home, self.work, self.root = (self.folder / name for name in ("home", "work", "runs"))
        self.home.mkdir(parents=True)
        self.work.mkdir()
        self.environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        self.environment |= {"HOME": str(self.home), "OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1",
                             "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", **(server.environment() if server else {}),
                             **environment}
        self.data = self.folder / "digits.h5"
        copy_digits(self.data)

    def command(self, *words, ranks=2, values=(), config=CONFIG):
        """lab_train of the small config; ranks 0: without mpirun."""
        launcher = ["mpirun", "-np", ranks, "--oversubscribe", "--bind-to", "none"] if ranks else []
        values = {**SMALL, "config.data": self.data, "trainer.init.default_root_dir": self.root, **dict(values)}
        return [*launcher, BUILD / "lab_train", config, *words, *settings(values)]

    def start(self, *words, environment=None, **options):
        """A value of the environment that is None is taken out."""
        return Started(self.command(*words, **options), self.changed(environment), self.work)

    def train(self, *words, code=0, **options):
        """The run as start() makes it, waited for; it must exit with that code."""
        with self.start(*words, **options) as started:
            done = started.wait()
        assert done.code == code, f"exit {done.code}, not {code}\n{done.out}\n{done.said}"
        return done

    def sync(self, *words, code=0, environment=None):
        with Started([BUILD / "lab_sync", *words], self.changed(environment), self.work) as started:
            done = started.wait()
        assert done.code == code, f"lab_sync: exit {done.code}, not {code}\n{done.out}\n{done.said}"
        return done

    def changed(self, changes):
        """The environment with these changes."""
        changed = {**self.environment, **(changes or {})}
        return {name: str(value) for name, value in changed.items() if value is not None}

    def runs(self):
        """The folders of the runs, oldest first."""
        found = [path.parent for path in self.root.glob("*/run.json")]
        return sorted(found, key=lambda folder: (json_of(folder)["started"], folder.name))

    def run(self):
        """The folder of the only one."""
        runs = self.runs()
        assert len(runs) == 1, runs
        return runs[0]


def copy_digits(path, bad_sample=None):
    """A few of the digits. bad_sample: has the label 200."""
    with h5py.File(DIGITS) as whole, h5py.File(path, "w") as few:
        for field in ("images", "labels"):
            few[field] = whole[field][:SAMPLES]
        if bad_sample is not None:
            few["labels"][bad_sample] = 200


@contextlib.contextmanager
def beside_a_server(**options):
    """(place, server, client): in a folder that goes with them; the official SDK's own mistakes are none of ours."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        with ClearmlServer(folder / "files", tolerate_sdk=True, **options) as server:
            client = client_of(server)
            client.token = server.auth.token()
            yield Place(folder / "place", server), server, client


def json_of(folder):
    return json.loads((pathlib.Path(folder) / "run.json").read_text(encoding="utf-8"))


def wait_until(condition, what, seconds=120):
    """What it says, as soon as that is something."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.02)
    return found


def wait_for_checkpoint(place):
    return wait_until(lambda: list(place.root.glob("*/checkpoints/last.safetensors")), "a checkpoint")[0].parents[1]


def do_all(jobs, at_once):
    """Calls each (function, arguments...), so many at once, and prints what it returns; exits 1 if any raises."""
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for finished in concurrent.futures.as_completed([pool.submit(*job) for job in jobs]):
            try:
                print(finished.result(), flush=True)
            except Exception:  # the others are of interest too
                failed += 1
                print(traceback.format_exc(), flush=True)
    if failed:
        sys.exit(f"{failed} of {len(jobs)} failed")


# --- what a run folder holds, and what came of it on the server


def rows_of(folder):
    """[((title, series, step), value)] of metrics.csv, without values that JSON has no word for."""
    rows = []
    with open(pathlib.Path(folder) / "metrics.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            title, _, series = row["tag"].rpartition("/")
            key = (title.replace("/", "_") or row["tag"], series, int(row["step"]))
            if math.isfinite(float(row["value"])):
                rows.append((key, float(row["value"])))
    return rows


def points_of(server, task):
    """(title, series, step) -> value"""
    with server.store.lock:
        events = server.store.events(task, "training_stats_scalar")
    return {(event["metric"], event["variant"], event["iter"]): event["value"] for event in events
            if not event["metric"].startswith(MACHINE)}


def sent_points(server, task):
    """How often each point was sent and taken."""
    batches = [request.json for request in server.records.of("events.add_batch") if request.status == 200]
    points = [event for batch in batches for event in batch
              if event["type"] == "training_stats_scalar" and event["task"] == task]
    return collections.Counter((event["metric"], event["variant"], event["iter"]) for event in points
                               if not event["metric"].startswith(MACHINE))


def _bare(line):
    """A line of the log without its time and without what tells its level."""
    return re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  ((warning|error): )?", "", line)


def log_of(folder):
    """The lines of the log, of each process up to its result: what it says of its records then, they do not hold."""
    lines, closed = [], False
    for line in (pathlib.Path(folder) / "log.txt").read_text(encoding="utf-8").splitlines():
        line = _bare(line)
        closed = closed and not re.match(r"lab \d", line)
        if not closed:
            lines.append(line)
        closed = closed or line.startswith(str(folder))
    return lines


def _records(folder, kind):
    """Those of the run's file of records that were written whole."""
    lines = (folder / "clearml.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    return [row for row in map(json.loads, lines) if row["type"] == kind]


def recorded_points(folder):
    """(title, series, step) -> value, of a run that was killed: the records may lack what was measured last."""
    points = {(row["metric"], row["variant"], row["iter"]): row["value"] for row in _records(folder, "training_stats_scalar")
              if not row["metric"].startswith(MACHINE)}
    rows = dict(rows_of(folder))
    newest = max(step for _, _, step in rows)
    assert points.items() <= rows.items(), points.items() - rows.items()
    assert all(key[2] == newest for key in rows.keys() - points.keys()), f"missing: {rows.keys() - points.keys()}"
    return points


def cut_off(folder):
    """Where in log_of(folder), and for how many lines, the log has what the records have not, of a run that was killed: it
    writes a message to one and then to the other."""
    messages = [row["msg"] for row in _records(folder, "log")]
    recorded, said = [_bare(line) for message in messages for line in message.splitlines()], log_of(folder)
    assert said[:len(recorded)] == recorded, difference(said, recorded)
    rest = len(said) - len(recorded)
    lines = (folder / "log.txt").read_text(encoding="utf-8").splitlines()[-rest:] if rest else []
    assert sum(re.match(r"\d{4}-", line) is not None for line in lines) <= 1, f"more than one message: {lines}"
    return len(recorded), rest


def without(lines, cut):
    first, count = cut
    return lines[:first] + lines[first + count:]


def moment_of(folder, words):
    """When the last line with these words was written to the log, in seconds since 1970."""
    lines = (pathlib.Path(folder) / "log.txt").read_text(encoding="utf-8").splitlines()
    return datetime.datetime.fromisoformat([line for line in lines if words in line][-1][:23]).timestamp()


def console_of(server, task):
    with server.store.lock:
        events = server.store.events(task, "log")
    return [_bare(line) for event in events for line in event["msg"].splitlines()]


def task_of(server, folder):
    """The server's row of the run's task."""
    with server.store.lock:
        return dict(server.store.row("tasks", json_of(folder)["task_id"]))


def check_complete(server, folder, status="completed", console=True, cut=(0, 0)):
    """All that the folder tells is on the server, once, but for what was cut off. The task's row."""
    task = task_of(server, folder)
    assert (task["status"], task["name"]) == (status, json_of(folder)["name"]), (task, json_of(folder))
    expected, found = dict(rows_of(folder)), points_of(server, task["id"])
    missing, more = set(expected.items()) - set(found.items()), set(found.items()) - set(expected.items())
    assert found == expected, f"points missing or other: {missing}; too many: {more}"
    if console:
        said, shown = without(log_of(folder), cut), console_of(server, task["id"])
        assert shown == said, difference(shown, said)
    assert not server.records.violations, server.records.violations
    return task


def difference(found, expected):
    for i, (a, b) in enumerate(zip(found, expected)):
        if a != b:
            return f"item {i} is {a!r}, not {b!r}"
    return f"{len(found)} items, not {len(expected)}; without a fellow: {max(found, expected, key=len)[-5:]}"
