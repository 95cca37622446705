"""Ranks that die or hang under the real mpirun: the job ends in time, one line names rank, host and place, nothing is left behind.

    watchdog_test.py BUILD_FOLDER [TIMES]
"""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

from programs import BUILD, ENVIRONMENT

TIMES = int(sys.argv[2]) if len(sys.argv) > 2 else 1
MOST_SECONDS = 120  # a bound against hanging on a busy machine, not a measurement
LIMIT = 2  # seconds that a rank may stand still
HOST = re.escape(socket.gethostname())
PLACE = r"in step 50, training, (in|after) all-reduce \d+ \(8 B\)"

# What a rank does: the job's exit codes, and what its one line says of the rank.
DEATHS = {
    "kill": ({137}, r"was killed by signal 9 \(SIGKILL\)"),
    "segv": ({139}, r"was killed by signal 11 \(SIGSEGV\)"),
    "exit0": (None, "ended with exit code 0 before the job was done"),
    "exit3": ({3}, "ended with exit code 3 before the job was done"),
    "lastword": ({134}, r"was killed by signal 6 \(SIGABRT\); its last word: no memory for 12 GiB"),
}
HANGS = {
    "stop": f"rank RANK on {HOST} is stopped by a signal, without a move for .*: {PLACE}",
    "loop": f"rank RANK on {HOST} hangs, without a move for .*: {PLACE}",
    "apart": f"all ranks on {HOST} wait for each other, in collectives that differ, without a move for .*: rank 0 in step",
}


def ours(folder):
    return {path for path in pathlib.Path(folder).iterdir() if "heartbeat" in path.name or path.name.startswith("lab_watchdog")}


def command(ranks, *words):
    return ["mpirun", "-np", str(ranks), "--oversubscribe", BUILD / "watchdog_ranks", *map(str, words)]


def run(ranks, *words):
    done = subprocess.run(command(ranks, *words), env=ENVIRONMENT, capture_output=True, text=True, timeout=MOST_SECONDS)
    errors = [line for line in done.stderr.splitlines() if " error: " in line]
    went_wrong = re.search(r"goes wrong at ([\d.]+)", done.stdout)
    return done.returncode, errors, time.time() - float(went_wrong[1]) if went_wrong else 0, done.stderr


def check(name, ranks, codes, pattern, words):
    code, errors, seconds, stderr = run(ranks, *words)
    good = len(errors) == 1 and re.search(pattern, errors[0]) and code != 0 and (codes is None or code in codes)
    assert good, f"{name} on {ranks} ranks: exit {code}, wanted {codes} and one line like {pattern}\n{stderr}"
    print(f"{name} np {ranks}: exit {code}, {seconds:.1f} s after it: {errors[0]}")


def check_deaths(ranks):
    for rank in (0, ranks - 1):
        for name, (codes, how) in DEATHS.items():
            # A kernel before 6.15 does not tell how, once the launcher has taken note of it.
            check(name, ranks, codes, f"rank {rank} on {HOST} ({how}|ended without a word.*): {PLACE}", [name, rank, 100])
        check("throw", ranks, {65}, f"label 12 is too large: {PLACE}", ["throw", rank, 100])
        somewhere = r"(barrier|all-reduce \(sum\) of 1 f64)"
        said = rf"rank \d is in {somewhere} where rank \d is in {somewhere}; all ranks must run the same program .*: in step 50, training, after "
        check("differ", ranks, {76}, said, ["differ", rank, 100])


def check_hangs(ranks, folder):
    for rank in (0, ranks - 1):
        for name, said in HANGS.items():
            report = folder / f"{name}.txt"
            report.unlink(missing_ok=True)
            pattern = said.replace("RANK", str(rank)) + f".*places are in {report}"
            check(name, ranks, {137}, pattern, [name, rank, 100, LIMIT, report])
            table = report.read_text()
            assert table.count("  training  ") == ranks and table.count("all-reduce") >= ranks - 1, table


def children_of(pid):
    out = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(word) for word in out.split()]


def check_no_false_alarm(ranks):
    """All stopped for longer than the limit, then resumed; and steps of which some take 20 times as long."""
    job = subprocess.Popen(command(ranks, "jitter", 0, 500, LIMIT), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    while len(children_of(job.pid)) < ranks:
        time.sleep(0.05)
    time.sleep(1)
    pids = children_of(job.pid)
    for what, pause in ((signal.SIGSTOP, LIMIT * 2), (signal.SIGCONT, 0)):
        for pid in pids:
            os.kill(pid, what)
        time.sleep(pause)
    _, stderr = job.communicate(timeout=MOST_SECONDS * 2)
    assert job.returncode == 0 and "error" not in stderr, f"exit {job.returncode}\n{stderr}"
    print(f"jitter and a pause np {ranks}: exit 0, nothing said")


def main():
    before = ours("/dev/shm") | ours("/tmp")
    with tempfile.TemporaryDirectory(prefix="lab_") as folder:
        for _ in range(TIMES):
            for ranks in (2, 4):
                check_deaths(ranks)
                check_hangs(ranks, pathlib.Path(folder))
                check_no_false_alarm(ranks)
    left = (ours("/dev/shm") | ours("/tmp")) - before
    assert not left, left
    running = subprocess.run(["pgrep", "-x", "watchdog_ranks"], capture_output=True, text=True, check=False).stdout
    assert not running, running


main()
