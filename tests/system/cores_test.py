"""The cores that a run's threads may use where mpirun binds each rank to one: the thread that computes its own, the reader
also what no rank is bound to, unless mpirun was told which cores are the job's.

    cores_test.py BUILD_FOLDER
"""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from programs import BUILD, ENVIRONMENT, settings

SECONDS = 120
GONE = FileNotFoundError, ProcessLookupError


def wait_until(found, run):
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if result := found():
            return result
        assert run.poll() is None, f"mpirun has ended with {run.returncode}"
        time.sleep(0.1)
    return None


def rank_of(run):
    for child in pathlib.Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split():
        with contextlib.suppress(*GONE):
            if pathlib.Path(f"/proc/{child}/comm").read_text().strip() == "lab_train":
                return int(child)
    return None


def threads_of(rank):
    """The cores of each thread but the first."""
    masks = []
    for task in pathlib.Path(f"/proc/{rank}/task").iterdir():
        with contextlib.suppress(*GONE):
            if task.name != str(rank):
                masks.append(os.sched_getaffinity(int(task.name)))
    return masks


@contextlib.contextmanager
def training(*words):
    """One rank that trains: mpirun and it."""
    with tempfile.TemporaryDirectory() as root:
        values = {"trainer.init.default_root_dir": root, "trainer.init.max_epochs": 100000, "trainer.init.log_every_n_steps": 1}
        run = subprocess.Popen(["mpirun", "-np", "1", "--bind-to", "core", *words, BUILD / "lab_train", "configs/mnist.toml",
                                "-o", *settings(values)], env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        try:
            rank = wait_until(lambda: rank_of(run), run)
            trained = wait_until(lambda: any("\n1," in file.read_text() for file in pathlib.Path(root).rglob("metrics.csv")), run)
            assert rank and trained, "nothing was trained"
            yield run, rank
        finally:
            run.kill()
            run.wait()


def main():
    with training() as (run, rank):
        computing, launcher = os.sched_getaffinity(rank), os.sched_getaffinity(run.pid)
        if computing == launcher:
            print("one core: none can be left without a rank")
            sys.exit(77)
        assert computing < launcher, (computing, launcher)
        assert wait_until(lambda: [mask for mask in threads_of(rank) if computing < mask <= launcher], run), \
            f"no thread may use a spare core: {threads_of(rank)}, of {launcher}"
    with training("--cpu-list", ",".join(map(str, sorted(computing)))) as (run, rank):
        masks = threads_of(rank)
        assert masks and all(mask <= computing for mask in masks), f"outside of --cpu-list: {masks}"


main()
