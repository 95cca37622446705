"""The cores that a run's threads may use where mpirun binds each rank to one: the thread that computes its own, those that
read and write also what no rank is bound to, unless mpirun was told which cores are the job's.

    cores_test.py BUILD_FOLDER
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

from programs import BUILD, ENVIRONMENT, settings


def cores(status):
    lines = dict(line.split(":", 1) for line in status.splitlines())
    ranges = [part.split("-") for part in lines["Cpus_allowed_list"].strip().split(",")]
    return {core for first, *last in ranges for core in range(int(first), int(last[0] if last else first) + 1)}


def child_of(process):
    while True:
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            if pathlib.Path(f"/proc/{child}/comm").read_text().strip() == "lab_train":
                return int(child)
        assert process.poll() is None, "mpirun has ended"
        time.sleep(0.1)


def masks_of_run(*words):
    """Cores of the main thread and of each other one of a single rank in training, and those of mpirun."""
    with tempfile.TemporaryDirectory() as root:
        values = {"trainer.init.default_root_dir": root, "trainer.init.max_epochs": 100000, "trainer.init.log_every_n_steps": 1}
        run = subprocess.Popen(["mpirun", "-np", "1", "--bind-to", "core", *words, BUILD / "lab_train", "configs/mnist.toml",
                                "-o", *settings(values)], env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        try:
            rank = child_of(run)
            while not any("\n1," in file.read_text() for file in pathlib.Path(root).rglob("metrics.csv")):
                assert run.poll() is None, "the run has ended before it trained"
                time.sleep(0.1)
            threads = {int(task.name): cores((task / "status").read_text()) for task in pathlib.Path(f"/proc/{rank}/task").iterdir()}
            return threads.pop(rank), list(threads.values()), os.sched_getaffinity(run.pid)
        finally:
            run.kill()
            run.wait()


def main():
    if len(os.sched_getaffinity(0)) < 2:
        print("one core: none can be left without a rank")
        sys.exit(77)
    computing, others, launcher = masks_of_run()
    assert len(computing) == 1, computing
    assert launcher in others, f"no thread may use the spare cores: {others}, of {launcher}"
    computing, others, _ = masks_of_run("--cpu-list", str(min(launcher)))
    assert all(mask <= computing for mask in others), f"outside of --cpu-list: {others}"


main()
