"""Jobs on a real Slurm: what launch/*.sbatch promise, and what srun hands on.

    slurm_test.py BUILD_FOLDER [--times N]     N: how often each way of interrupting a job is tried (1)

Exits with 77, which ctest takes as skipped, where no Slurm can be started.
"""

import math
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

from programs import BUILD, run, sha256
from slurm_cluster import Cluster, descendants, environment_of, wait_until, why_not

PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent
TIMES = int(sys.argv[sys.argv.index("--times") + 1]) if "--times" in sys.argv else 1
EPOCHS = 8
SAVED = "saved, requeued, finished with the unbroken run's bits"
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}


class Place:
    """A working folder with the project as users see it, and nothing in data/artifacts yet."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "data").mkdir(parents=True)
        for file in (PROJECT / "data").glob("*.h5"):
            (folder / "data" / file.name).symlink_to(file)
        for name, target in (("build", BUILD), ("launch", PROJECT / "launch"), ("configs", PROJECT / "configs")):
            (folder / name).symlink_to(target)

    def config(self, stem, epochs, seed=1):
        (self.folder / f"{stem}.toml").write_text(f'extends = "configs/mnist.toml"\n[trainer.init]\nmax_epochs = {epochs}\nseed = {seed}\n')
        return f"{stem}.toml"

    def log(self):
        """All that the jobs of this place said."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("slurm-*.out")))

    def wait_for(self, words, times=1):
        try:
            wait_until(lambda: self.log().count(words) >= times, f"the log has '{words}' {times} times", 240)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None

    def wait_for_training(self, starts=1):
        self.wait_for("first step done", starts)

    def wait_for_an_epoch(self, number):
        """0: for the first step."""
        self.wait_for(f"Finished epoch {number:04}/" if number else "first step done")

    def result(self, stem="run"):
        """The weights' hash, and the curves without the time, of the only run that a config has had."""
        runs = list((self.folder / "data/artifacts").glob(f"mnist-{stem}_*"))
        assert len(runs) == 1, runs
        points = [line.rsplit(",", 1)[0] for line in (runs[0] / "metrics.csv").read_text().splitlines()]
        return sha256(runs[0] / "checkpoints/last.safetensors"), points


def without_slurm(place, config, stem="run"):
    done = run(2, "lab_train", config, "-o", cwd=place.folder)
    assert done.returncode == 0, done.stderr
    return place.result(stem)


def submit(cluster, place, *words, script="train", flags=()):
    done = cluster.ask("sbatch", "--parsable", *flags, f"launch/{script}.sbatch", *words, cwd=place.folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def ended(cluster, job, seconds=240):
    """(state, exit code, number of restarts) of a job once it has ended."""
    known = wait_until(lambda: (now := cluster.job(job)).get("JobState") in ENDED and now, f"job {job} has ended", seconds)
    return known["JobState"], known["ExitCode"], int(known["Restarts"])


def say(*words):
    print(f"{time.monotonic() - START:5.0f} s ", *words, flush=True)


def as_shipped(cluster, root, epochs):
    """Both scripts, on two nodes and on one; returns the result of the run without Slurm."""
    plain, place = Place(root / "plain"), Place(root / "shipped")
    expected = without_slurm(plain, plain.config("run", epochs))
    job = submit(cluster, place, place.config("run", epochs), "-o", flags=["--partition=both", "--nodes=2", "--ntasks-per-node=1"])
    assert ended(cluster, job) == ("COMPLETED", "0:0", 0), place.log()
    assert place.result() == expected, "two nodes of Slurm, other results"
    weights = next(place.folder.glob("data/artifacts/*/checkpoints/best.safetensors"))
    words = ["run.toml", weights.relative_to(place.folder), "data/mnist-test.h5"]
    assert run(2, "lab_infer", *words, "plain.csv", cwd=place.folder).returncode == 0
    job = submit(cluster, place, *words, "slurm-%a.csv", script="infer", flags=["--array=7"])
    assert ended(cluster, f"{job}_7") == ("COMPLETED", "0:0", 0), place.log()
    assert (place.folder / "plain.csv").read_bytes() == (place.folder / "slurm-7.csv").read_bytes()
    say("train.sbatch on two nodes, infer.sbatch on one: as without Slurm")
    return expected


def check_stopped(place, outcome, expected, stem="run"):
    state, code, restarts = outcome
    assert (state, code) == ("COMPLETED", "0:0") and restarts >= 1, f"{outcome}\n{place.log()}"
    assert "xited with exit code 75" in place.log(), f"nothing was saved\n{place.log()}"
    assert place.result(stem) == expected, f"not the unbroken run's weights and curves\n{place.log()}"


def warn(cluster, job):
    return cluster.ask("scancel", "--signal=USR1", "--batch", job)


def requeue(cluster, job):
    return cluster.ask("scontrol", "requeue", job)


def preempt(cluster, _):
    return cluster.ask("sbatch", "--partition=urgent", "--ntasks=2", "--output=/dev/null", "--wrap=true", cwd=cluster.root)


def interrupted(cluster, place, epochs, expected, disturb):
    job = submit(cluster, place, place.config("run", epochs), "-o")
    place.wait_for_an_epoch(random.randrange(epochs // 2))  # in epochs: the machine may be slow, and quick again
    time.sleep(random.uniform(0, 0.5))
    assert disturb(cluster, job).returncode == 0
    check_stopped(place, ended(cluster, job), expected)


def cancelled(cluster, place, epochs, expected):
    """scancel saves and is final; another job goes on when it is told with what."""
    words = [place.config("run", epochs), "-o"]
    job = submit(cluster, place, *words)
    place.wait_for_training()
    assert cluster.ask("scancel", job).returncode == 0
    state, _, restarts = ended(cluster, job)
    assert (state, restarts) == ("CANCELLED", 0) and "xited with exit code 75" in place.log(), f"{state} {restarts}\n{place.log()}"
    job = submit(cluster, place, *words, "--resume=data/artifacts/mnist-run_offline")
    assert ended(cluster, job) == ("COMPLETED", "0:0", 0), place.log()
    assert place.result() == expected, place.log()


def long_run(root):
    """(epochs, result without Slurm) of a run of about a minute on this machine."""
    place, start = Place(root / "short"), time.monotonic()
    without_slurm(place, place.config("run", EPOCHS))
    epochs = math.ceil(EPOCHS * 60 / (time.monotonic() - start))
    place = Place(root / "long")
    return epochs, without_slurm(place, place.config("run", epochs))


def time_limit(cluster, root, epochs, expected):
    """A real time limit of a minute, for a run that takes longer than its part before the signal.

    Slurm looks at limits every 30 s and sends the signal half a minute early: here 5 to 35 s after the job's start.
    The limit is for the first start only. On a busy machine the signal may come before a rank has begun: then again.
    """
    flags = ["--partition=other", "--time=1", "--signal=B:USR1@25"]
    for _ in range(3):
        place = Place(pathlib.Path(tempfile.mkdtemp(dir=root)) / "limit")
        job = submit(cluster, place, place.config("run", epochs), "-o", flags=flags)
        known = wait_until(lambda: (now := cluster.job(job)) and (now["Restarts"] != "0" or now["JobState"] in ENDED) and now, "the limit", 240)
        if known["JobState"] not in ENDED:
            cluster.ask("scontrol", "update", f"JobId={job}", "TimeLimit=60")
        outcome = ended(cluster, job)
        if outcome[2] and "xited with exit code 75" in place.log():
            return check_stopped(place, outcome, expected)
    raise AssertionError(f"three runs of {epochs} epochs, and none met its time limit\n{place.log()}")


def array(cluster, root, epochs):
    """Four configs, two at a time; the last job, whose number is also the array's, is interrupted beside another."""
    plain, place = Place(root / "array-plain"), Place(root / "array")
    lengths = {"a": 1, "b": 1, "c": epochs, "d": epochs}
    expected = {stem: without_slurm(plain, plain.config(stem, length, ord(stem)), stem) for stem, length in lengths.items()}
    configs = [place.config(stem, length, ord(stem)) for stem, length in lengths.items()]
    job = submit(cluster, place, *configs, "-o", flags=["--array=0-3", "--partition=both"])
    place.wait_for_training(4)
    assert warn(cluster, f"{job}_3").returncode == 0
    outcomes = [ended(cluster, f"{job}_{i}") for i in range(4)]
    assert outcomes[:3] == 3 * [("COMPLETED", "0:0", 0)], f"{outcomes}\n{place.log()}"
    check_stopped(place, outcomes[3], expected["d"], "d")
    assert {stem: place.result(stem) for stem in lengths} == expected
    say("array of four configs, one of them interrupted")


def exit_codes(cluster, root):
    place = Place(root / "codes")
    (place.folder / "text.h5").write_text("this is not HDF5\n" * 100)
    cases = {64: ["configs/mnist.toml", "--ofline"], 65: ["configs/mnist.toml", "-o", "--set", "config.data=text.h5"], 66: ["none.toml", "-o"],
             78: ["configs/mnist.toml", "-o", "--set", "config.batch_size=-1"]}
    jobs = {code: submit(cluster, place, *words) for code, words in cases.items()}
    for code, words in cases.items():
        direct = cluster.ask("srun", "--partition=other", "--ntasks=2", "--mpi=pmix", "build/lab_train", *words, cwd=place.folder)
        assert direct.returncode == code, f"srun: {direct.returncode} for {code}\n{direct.stderr}"
    for code, job in jobs.items():
        assert ended(cluster, job) == ("FAILED", f"{code}:0", 0), f"{cluster.job(job)}\n{place.log()}"
    say("exit codes", *cases, "by srun and by train.sbatch")


def signalled(cluster, root, name, code, disturb):
    """srun's exit code when something happens to the ranks while they train."""
    place = Place(root / f"signalled-{code}")
    words = ["srun", f"--job-name={name}", "--ntasks=2", "--mpi=pmix", "build/lab_train", place.config("run", 1000), "-o"]
    with open(place.folder / "slurm-srun.out", "wb") as out:
        srun = subprocess.Popen(words, env=cluster.environment, cwd=place.folder, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    place.wait_for_training()
    disturb(cluster.ask("squeue", "-h", "-n", name, "-o", "%i").stdout.strip())
    assert srun.wait(120) == code, f"srun: {srun.returncode} for {code}\n{place.log()}"
    say("srun:", name, code)


def kill_rank(job):
    rank, = [pid for pid in descendants(os.getpid()) if {f"SLURM_JOB_ID={job}", "SLURM_PROCID=1"} <= environment_of(pid)]
    os.kill(rank, signal.SIGKILL)


def main():
    with tempfile.TemporaryDirectory(prefix="lab-slurm-") as folder, Cluster(pathlib.Path(folder, "cluster")) as cluster:
        root = pathlib.Path(folder)
        expected = as_shipped(cluster, root, EPOCHS)
        long = long_run(root)
        for i in range(TIMES):
            time_limit(cluster, root, *long)
            say("time limit", SAVED)
            for way in (warn, requeue, preempt):
                interrupted(cluster, Place(root / f"{way.__name__}-{i}"), EPOCHS, expected, way)
                say(way.__name__, SAVED)
            cancelled(cluster, Place(root / f"cancelled-{i}"), EPOCHS, expected)
            say("cancelled: saved, not requeued; another job goes on")
        array(cluster, root, EPOCHS)
        exit_codes(cluster, root)
        signalled(cluster, root, "USR1-to-the-step", 75, lambda job: cluster.ask("scancel", "--signal=USR1", f"{job}.0"))
        signalled(cluster, root, "one-rank-killed", 137, kill_rank)


if __name__ == "__main__":
    if reason := why_not():
        print(f"skipped: {reason}")
        sys.exit(77)
    START = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # through the with, which ends Slurm
    main()
