"""Runs that are killed or stopped at random moments and continued: the final weights are the unbroken run's, bit for bit, and so
are the points in metrics.csv and in the event file.

    resume_test.py BUILD_FOLDER [--runs N]     N: how many runs of each kind are broken (default 1)
"""

import contextlib
import csv
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

from programs import BUILD, ENVIRONMENT, run, settings, sha256
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

CASES = {  # name: config, how it is made small, ranks to change to
    "canonical toy": ("configs/mnist_toy.toml", {"trainer.init.numerics": "canonical", "trainer.init.max_epochs": 3}, [2, 1, 4, 3]),
    "canonical cnn": ("configs/mnist.toml", {"trainer.init.numerics": "canonical", "trainer.init.max_epochs": 2, "config.dropout": 0.2}, [4, 2, 1, 3]),
    "ordinary": ("configs/mnist.toml", {"trainer.init.numerics": "ordinary", "trainer.init.max_epochs": 2}, [2]),
}
COMMON = {"config.schedule": "multi_step", "trainer.init.checkpoint_every_n_steps": 3, "trainer.init.log_every_n_steps": 7, "config.batch_size": 256}


def start(ranks, config, root, values, resume=None, by=None):
    words = ["-o", *settings({**COMMON, **values, "trainer.init.default_root_dir": root})]
    if resume:
        words.append(resume)
    by = by or ["mpirun", "--oversubscribe", "--bind-to", "none"]
    command = [*by, "-np", str(ranks), BUILD / "lab_train", config, *words]
    return subprocess.Popen(list(map(str, command)), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ranks_of(process):
    """The pids of the ranks that this mpirun has started."""
    return children(process.pid, "lab_train")


def the_run(root):
    folders = [folder for folder in pathlib.Path(root).iterdir() if (folder / "run.json").exists()]
    assert len(folders) == 1, folders
    return folders[0]


def points(folder):
    with open(folder / "metrics.csv", newline="") as file:
        rows = [tuple(row[:4]) for row in csv.reader(file)]
    files = list(folder.glob("events.out.tfevents.*"))
    assert len(files) == 1, files
    events = []
    for event in EventFileLoader(str(files[0])).Load():
        for value in event.summary.value:  # a number, or a picture
            events.append((event.step, value.tag, *(value.tensor.float_val or value.tensor.string_val)))
    return rows, events


def finished(folder):
    return sha256(folder / "checkpoints/last.safetensors"), points(folder)


def wait_for_first_checkpoint(process, root):
    while process.poll() is None and not list(pathlib.Path(root).glob("*/checkpoints/last.safetensors")):
        time.sleep(0.02)


def broken(config, root, values, ranks, kills, seconds):
    """The folder of a run that was killed so many times and then went on to its end."""
    killed = 0
    while True:
        process = start(random.choice(ranks), config, root, values, resume="--resume")
        if killed < kills:
            wait_for_first_checkpoint(process, root)
            time.sleep(random.uniform(0.05, seconds))
            victims = ranks_of(process)
            if process.poll() is None and victims:
                os.kill(random.choice([*victims, process.pid]), signal.SIGKILL)
                killed += 1
        out, said = process.communicate(timeout=300)
        wait_until_gone(root)
        if process.returncode == 0:
            return the_run(root), killed
        assert "error: " not in said or "ended" in said, said


def children(pid, name):
    done = subprocess.run(["pgrep", "-P", str(pid), "-x", name], capture_output=True, text=True)
    return [int(child) for child in done.stdout.split()]


def newest_step(root):
    """What the newest checkpoint is of; -1 before there is one."""
    names = [path.name for path in pathlib.Path(root).glob("*/checkpoints/epoch=*.safetensors")]
    return max((int(name.split("step=")[1].split(".")[0]) for name in names), default=-1)


def broken_under_lab_run(config, root, values, ranks, kills, seconds):
    """The same, with lab_run to start the ranks again: it alone is started, once."""
    process = start(random.choice(ranks), config, root, values, by=[BUILD / "lab_run"])
    killed, reached = 0, -1
    while killed < kills and process.poll() is None:
        if newest_step(root) <= reached:  # three deaths without progress would be given up
            time.sleep(0.02)
            continue
        time.sleep(random.uniform(0.05, seconds))
        reached = newest_step(root)
        for mpirun in children(process.pid, "mpirun")[:1]:
            os.kill(random.choice([*children(mpirun, "lab_train"), mpirun]), signal.SIGKILL)
            killed += 1
    _, said = process.communicate(timeout=300)
    wait_until_gone(root)
    assert process.returncode == 0, (process.returncode, said)
    return the_run(root), killed


def wait_until_gone(root):
    for _ in range(100):
        if subprocess.run(["pgrep", "-f", f"lab_train.*{root}"], capture_output=True).returncode != 0:
            return
        time.sleep(0.05)


def kills_leave_no_trace(runs):
    for case, (name, (config, values, ranks)) in enumerate(CASES.items()):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            began = time.monotonic()
            whole = start(ranks[0], config, folder / "whole", values)
            _, said = whole.communicate(timeout=300)
            assert whole.returncode == 0, said
            seconds = max(0.3, (time.monotonic() - began) / 6)
            expected = finished(the_run(folder / "whole"))
            total, by_lab_run = 0, 0
            for number in range(runs):
                (folder / str(number)).mkdir()
                breaks = (broken, broken_under_lab_run)[(number + case) % 2]
                by_lab_run += breaks is broken_under_lab_run
                resumed, killed = breaks(config, folder / str(number), values, ranks, 3, seconds)
                found = finished(resumed)
                assert found[1][0] == expected[1][0], f"{name}: metrics.csv differs: {difference(found[1][0], expected[1][0])}"
                assert found[1][1] == expected[1][1], f"{name}: event file differs: {difference(found[1][1], expected[1][1])}"
                assert found[0] == expected[0], f"{name}: other weights in {resumed}"
                total += killed
            print(f"{name}: {runs} runs ({by_lab_run} under lab_run) killed {total} times, each ends as the unbroken one: {expected[0][:16]}, {len(expected[1][1])} points", flush=True)


def difference(found, expected):
    for index, (a, b) in enumerate(zip(found, expected)):
        if a != b:
            return f"item {index} is {a}, not {b}"
    return f"{len(found)} items, not {len(expected)}"


def some_ranks(process):
    ranks = ranks_of(process)
    return random.choice([ranks, ranks[:1], ranks[1:]])


def launcher(process):
    return [process.pid]


SIGNALS = [  # to whom, which, exit code, status. mpirun's own code for a TERM or INT of its own is 1: the ranks get TERM
    ("the ranks", some_ranks, signal.SIGUSR1, 75, "stopped"),
    ("the ranks", some_ranks, signal.SIGTERM, 75, "stopped"),
    ("the ranks", some_ranks, signal.SIGINT, 130, "interrupted"),
    ("mpirun", launcher, signal.SIGUSR1, 75, "stopped"),
    ("mpirun", launcher, signal.SIGTERM, 1, "stopped"),
    ("mpirun", launcher, signal.SIGINT, 1, "stopped"),
    ("lab_run", launcher, signal.SIGUSR1, 75, "stopped"),
    ("lab_run", launcher, signal.SIGTERM, 75, "stopped"),
    ("lab_run", launcher, signal.SIGINT, 130, "stopped"),
]


def signals_save_and_stop(times):
    config, values, _ = CASES["ordinary"]
    values = {**values, "trainer.init.max_epochs": 50, "trainer.init.checkpoint_every_n_steps": 0}
    for to, who, number, code, status in SIGNALS:
        for _ in range(times):
            with tempfile.TemporaryDirectory() as root:
                process = start(2, config, root, values, by=[BUILD / "lab_run"] if to == "lab_run" else None)
                wait_for_first_checkpoint(process, root)
                time.sleep(random.uniform(0, 0.5))
                for pid in who(process):
                    os.kill(pid, number)
                _, said = process.communicate(timeout=60)
                assert process.returncode == code, (number, process.returncode, said)
                folder = the_run(root)
                assert f'"status": "{status}"' in (folder / "run.json").read_text()
                wait_until_gone(root)
                process = start(2, config, root, {**values, "trainer.init.max_steps": steps_of(folder) + 2}, "--resume")
                _, said = process.communicate(timeout=60)
                assert process.returncode == 0 and "going on with" in said, said
        print(f"{number.name} to {to}: exit {code}, saved, went on: {times} of {times}", flush=True)


def steps_of(folder):
    return json.loads((folder / "run.json").read_text())["steps"]


def starts_of(root):
    return sum(json.loads(path.read_text())["starts"] for path in pathlib.Path(root).glob("*/run.json"))


def a_second_signal_ends_at_once(times):
    """In a long step; what was saved before it stays good."""
    config, values, _ = CASES["ordinary"]
    values = {**values, "trainer.init.max_epochs": 500, "config.batch_size": 5500}
    at_once = 0
    for _ in range(times):
        with tempfile.TemporaryDirectory() as root:
            process = start(2, config, root, values)
            wait_for_first_checkpoint(process, root)
            pids = ranks_of(process)
            for _ in range(2):
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)
                time.sleep(0.15)
            _, said = process.communicate(timeout=60)
            assert process.returncode in (75, 128 + signal.SIGTERM), (process.returncode, said)  # 75: the step was just done
            at_once += process.returncode != 75
            wait_until_gone(root)
            process = start(2, config, root, {**values, "trainer.init.max_steps": newest_step(root) + 1}, "--resume")
            _, said = process.communicate(timeout=60)
            assert process.returncode == 0 and "going on with" in said, said
    assert at_once > 0, "no second signal has come within a step"
    print(f"a second signal: {times} of {times} went on; {at_once} ended at once, with 143", flush=True)


def a_config_that_changed(root):
    config, values, _ = CASES["ordinary"]
    words = ["-o", *settings({**COMMON, "trainer.init.default_root_dir": root})]
    done = run(2, "lab_train", config, *words, "--set", "trainer.init.max_steps=4")
    assert done.returncode == 0, done.stderr
    folder = the_run(root)
    before = sha256(folder / "checkpoints/last.safetensors"), (folder / "run.json").read_bytes()
    done = run(2, "lab_train", config, *words, "--set", "config.learning_rate=0.1", f"--resume={folder}")
    assert done.returncode == 78 and "config.learning_rate: 0.1, was 0.003" in done.stderr, done.stderr
    assert before == (sha256(folder / "checkpoints/last.safetensors"), (folder / "run.json").read_bytes())
    done = run(2, "lab_train", config, *words, "--set", "config.learning_rate=0.1", "--set", "trainer.init.max_steps=6",
               f"--resume={folder}", "--allow-config-change")
    assert done.returncode == 0 and steps_of(folder) == 6, done.stderr
    print("a changed config: refused with its differences, taken when asked for", flush=True)


def another_end_of_a_cosine(root):
    """The rates of all steps depend on it."""
    words = ["-o", *settings({**COMMON, "config.schedule": "cosine", "trainer.init.default_root_dir": root})]
    done = run(2, "lab_train", "configs/mnist.toml", *words, "--set", "trainer.init.max_steps=4")
    assert done.returncode == 0, done.stderr
    done = run(2, "lab_train", "configs/mnist.toml", *words, "--set", "trainer.init.max_steps=6", f"--resume={the_run(root)}")
    assert done.returncode == 78 and "trainer.init.max_steps: 6, was 4" in done.stderr, done.stderr
    print("another end under a cosine schedule: refused", flush=True)


def damaged_checkpoints(root):
    config = "configs/mnist.toml"
    words = ["-o", *settings({**COMMON, "trainer.init.default_root_dir": root})]
    done = run(2, "lab_train", config, *words, "--set", "trainer.init.max_steps=7")
    assert done.returncode == 0, done.stderr
    folder = the_run(root)
    files = sorted((folder / "checkpoints").glob("epoch=*"), key=lambda path: path.stat().st_mtime_ns)
    flip(files[-1])
    done = run(2, "lab_train", config, *words, "--set", "trainer.init.max_steps=8", f"--resume={folder}")
    assert done.returncode == 0 and "going on from the checkpoint before" in done.stderr and "damaged" in done.stderr, done.stderr
    for path in (folder / "checkpoints").glob("epoch=*"):
        os.truncate(path, path.stat().st_size - 100)
    done = run(2, "lab_train", config, *words, "--set", "trainer.init.max_steps=9", f"--resume={folder}")
    assert done.returncode == 65 and "none of the 2 checkpoints" in done.stderr, done.stderr
    print("a damaged checkpoint: the one before is taken, and it is said; all damaged: 65", flush=True)


def flip(path):
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 8]))


def ordinary_numerics_on_other_ranks(root):
    """In 64-bit floats, where rounding stays small."""
    values = {"trainer.init.numerics": "ordinary", "trainer.init.precision": "64-true", "trainer.init.max_epochs": 2}
    folders = []
    for name, parts in (("whole", [(2, -1)]), ("parts", [(2, 9), (3, 22), (1, 30), (4, -1)])):
        for ranks, steps in parts:
            done = start(ranks, "configs/mnist.toml", pathlib.Path(root) / name, {**values, "trainer.init.max_steps": steps}, "--resume" if steps == parts[0][1] else f"--resume={folders[-1]}")
            _, said = done.communicate(timeout=120)
            assert done.returncode == 0, said
            folders.append(the_run(pathlib.Path(root) / name))
    whole, parts = (load_file(folder / "checkpoints/last.safetensors") for folder in (folders[0], folders[-1]))
    worst = max(float((whole[name] - parts[name]).abs().max()) for name in whole if not name.startswith("lab."))
    assert 0 <= worst < 1e-9, worst
    print(f"ordinary numerics on 2, 3, 1, 4 ranks one after the other: weights differ by at most {worst:.1e}", flush=True)


def a_second_writer(root):
    config, values, _ = CASES["ordinary"]
    process = start(2, config, root, {**values, "trainer.init.max_epochs": 500})
    wait_for_first_checkpoint(process, root)
    folder = the_run(root)
    done = run(1, "lab_train", config, "-o", f"--resume={folder}", *settings({**COMMON, **values, "trainer.init.default_root_dir": root}))
    assert done.returncode == 64 and "is being written by process" in done.stderr, (done.returncode, done.stderr)
    for pid in ranks_of(process):
        os.kill(pid, signal.SIGUSR1)
    process.communicate(timeout=60)
    assert process.returncode == 75
    print("a second writer: refused, the first one goes on", flush=True)


def starts_without_progress(root):
    config, values, _ = CASES["ordinary"]
    for number in range(1, 4):
        process = start(1, config, root, {**values, "trainer.init.checkpoint_every_n_steps": 0}, "--resume")
        while process.poll() is None and starts_of(root) < number:
            time.sleep(0.02)
        process.kill()
        process.communicate()
        wait_until_gone(root)
    process = start(1, config, root, values, "--resume")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 93 and "no progress" in said, (process.returncode, said)
    print("three starts without progress: 93", flush=True)


def main():
    runs = int(sys.argv[sys.argv.index("--runs") + 1]) if "--runs" in sys.argv else 1
    for part in (a_config_that_changed, another_end_of_a_cosine, damaged_checkpoints, a_second_writer, starts_without_progress, ordinary_numerics_on_other_ranks):
        with tempfile.TemporaryDirectory() as root:
            part(root)
    a_second_signal_ends_at_once(min(runs, 10))
    signals_save_and_stop(min(runs, 10))
    kills_leave_no_trace(runs)


if __name__ == "__main__":
    main()
