"""lab_run around stand-ins for lab_train that keep its promises to it (signals, exit codes, --resume, progress
reports): what it passes on, when it starts again, and that nothing is left of a job whatever was killed.

    lab_run_test.py BUILD_FOLDER [TIMES]
"""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from programs import BUILD

TIMES = int(sys.argv[2]) if len(sys.argv) > 2 else 3
PATIENCE = 60  # a bound against hanging on a busy machine, not a measurement
CASES = []
SHARED_MEMORY = pathlib.Path("/dev/shm")

RANK = '''#!{python}
import os, signal, sys, time
first = 0
def stop(number, frame):
    global first
    if first:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    first = number
for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
    signal.signal(number, stop)
folder, steps, crash_at, how, save_every, save_seconds = sys.argv[1:7]
rank = int(os.environ["OMPI_COMM_WORLD_RANK"])
report = os.environ["LAB_RUN_PROGRESS"]
state, crash, finished = folder + "/state", report + ".crash", report + ".finished" # a new report file at each start
def replace(path, text):
    with open(path + ".new", "w") as file:
        file.write(text)
    os.replace(path + ".new", path)
def save(step):
    replace(state, str(step))
    replace(report, f"{{folder}}\\n{{step}}\\n")
def crashes_left():
    return int(open(folder + "/crashes_left").read())
def leave(code):
    open(finished, "w").close()
    os._exit(code)
replace(f"{{folder}}/rank.{{rank}}", str(os.getpid()))
if rank > 0: # does what rank 0 has come to
    while not os.path.exists(finished):
        time.sleep(0.01)
        if rank == 1 and os.path.exists(crash):
            os.kill(os.getpid(), int(how[3:])) if how.startswith("sig") else os._exit(int(how))
    os._exit({{0: 0, signal.SIGINT: 130}}.get(first, 75))
resume = sys.argv[7:].count("--resume")
assert resume < 2
step = int(open(state).read()) if resume and os.path.exists(state) and save_seconds != "forgetful" else 0
with open(folder + "/starts", "a") as file:
    print(os.environ["LAB_RUN_ID"], resume, step, file=file)
while step < int(steps) and not first:
    time.sleep(0.02)
    step += 1
    if step % int(save_every) == 0:
        save(step)
    if 0 <= int(crash_at) <= step and crashes_left() > 0:
        replace(folder + "/crashes_left", str(crashes_left() - 1))
        open(crash, "w").close()
        while not first:
            time.sleep(0.01) # in a collective, until the launcher ends it
        os._exit(70)
if first:
    time.sleep(float(save_seconds))
    save(step)
    open(folder + "/stopped", "w").close()
leave({{0: 0, signal.SIGINT: 130}}.get(first, 75))
'''


class Case:
    """A job of stand-ins in a folder of its own, and what is seen of it from outside."""

    def __init__(self, root, steps=10**9, crash_at=-1, how="0", crashes=10**6, save_every=5, save_seconds=0, ranks=2, options=()):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=root))
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()
        program = self.folder / "rank"
        program.write_text(RANK.format(python=sys.executable))
        program.chmod(0o755)
        (self.folder / "crashes_left").write_text(str(crashes))
        self.log = self.folder / "log"
        words = [self.folder, steps, crash_at, how, save_every, save_seconds]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMPI_", "SLURM_"))}
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [BUILD / "lab_run", "-np", str(ranks), *map(str, options), program, *map(str, words)],
                env={**environment, "TMPDIR": str(self.temporary)}, stdout=log, stderr=log)

        CASES.append(self)

    def starts(self):
        path = self.folder / "starts"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def said(self):
        return self.log.read_text()

    def until(self, what, condition):
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"waited in vain for {what}\n{self.said()}"
            time.sleep(0.01)

    def until_saved(self):
        self.until("a checkpoint", (self.folder / "state").exists)
        self.until("the second rank", (self.folder / "rank.1").exists)

    def pid_of(self, rank):
        return int((self.folder / f"rank.{rank}").read_text())

    def launcher(self):
        name = [pid for pid in children(self.process.pid) if "mpirun" in read(f"/proc/{pid}/comm")]
        return name[0] if name else 0

    def ends_with(self, code):
        got = self.process.wait(PATIENCE)
        assert got == code, f"exit {got}, expected {code}\n{self.said()}"
        self.nothing_is_left()

    def nothing_is_left(self):
        ids = {start[0] for start in self.starts()}
        left = [f"process {pid}: {read(f'/proc/{pid}/cmdline')}" for pid in everyone()
                if any(f"LAB_RUN_ID={one}" in read(f"/proc/{pid}/environ").split("\0") for one in ids)]
        left += map(str, SHARED_MEMORY.glob(f"lab_run.{os.geteuid()}.{self.process.pid}.*"))
        left += map(str, self.temporary.iterdir())
        assert not left, (left, self.said())
        assert len(ids) <= 1, "one run id for all starts"


def read(path):
    try:
        return pathlib.Path(path).read_text(errors="replace")
    except OSError:
        return ""


def everyone():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def children(pid):
    return [child for child in everyone() if f"\nPPid:\t{pid}\n" in read(f"/proc/{child}/status")]


def test_exit_codes_are_passed_on(root):
    for code in (0, 2, 64, 65, 66, 69, 76, 78, 93, 130):
        case = Case(root, crash_at=1, how=code) if code else Case(root, steps=3)
        case.ends_with(code)
        assert len(case.starts()) == 1, (code, case.said())


def test_a_crash_is_started_again_with_resume(root):
    for how, code in (("1", 1), ("70", 70), ("74", 74), ("75", 75), ("134", 134), ("sig11", 139), ("sig9", 137)):
        case = Case(root, crash_at=1, how=how, options=["--restarts", 1])
        case.ends_with(code)
        assert [start[1] for start in case.starts()] == ["0", "1"], (how, case.said())
        assert "restart 1 of 1 from the beginning" in case.said(), case.said()


def test_it_goes_on_from_the_step_that_was_saved(root):
    case = Case(root, steps=30, crash_at=12, how="sig11", crashes=1, save_every=10)
    case.ends_with(0)
    assert [start[1:] for start in case.starts()] == [["0", "0"], ["1", "10"]], case.starts()
    assert f"restart 1 from step 10 of {case.folder}" in case.said(), case.said()


def test_three_starts_without_progress_are_the_last(root):
    case = Case(root, crash_at=12, how="70", save_every=10**6)
    case.ends_with(93)
    assert len(case.starts()) == 3, case.starts()
    assert "giving up (93)" in case.said()
    case = Case(root, crash_at=25, how="sig9", save_every=20)  # the first start gets to 20, later ones no further
    case.ends_with(93)
    assert [int(start[2]) for start in case.starts()] == [0, 20, 20, 20], case.said()
    case = Case(root, crash_at=12, how="70", save_every=10, save_seconds="forgetful")  # each start gets to 10 again
    case.ends_with(93)
    assert len(case.starts()) == 4, case.said()


def test_signals_to_lab_run_save_and_stop(root):
    for number, code in ((signal.SIGUSR1, 75), (signal.SIGTERM, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130)):
        for _ in range(TIMES):
            case = Case(root)
            case.until_saved()
            time.sleep(random.uniform(0, 0.1))
            case.process.send_signal(number)
            case.ends_with(code)
            assert (case.folder / "stopped").exists() and len(case.starts()) == 1, case.said()


def test_a_signal_during_the_start_waits_for_the_ranks(root):
    for _ in range(TIMES):
        case = Case(root)
        case.until("lab_run's own start", lambda: case.launcher() or case.process.poll() is not None)
        time.sleep(random.uniform(0, 0.4))
        case.process.send_signal(signal.SIGTERM)
        case.ends_with(75)
        assert (case.folder / "stopped").exists(), case.said()


def test_a_second_signal_ends_everything_at_once(root):
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        for _ in range(TIMES):
            case = Case(root, save_seconds=1000)
            case.until_saved()
            case.process.send_signal(signal.SIGUSR1)
            case.until("the first signal's line", lambda: "finish their step" in case.said())
            case.process.send_signal(number)
            case.ends_with(128 + number)
            assert len(case.starts()) == 1, case.said()


def test_a_killed_rank_or_launcher_is_a_restart(root):
    for victim in (lambda case: case.pid_of(0), lambda case: case.pid_of(1), Case.launcher):
        for _ in range(TIMES):
            case = Case(root)  # would run for ever: who is left alone must be ended
            case.until_saved()
            os.kill(victim(case), signal.SIGKILL)
            case.until("the second start", lambda: len(case.starts()) == 2)
            assert int(case.starts()[1][2]) >= 5, (case.starts(), case.said())
            case.process.terminate()
            case.ends_with(75)
            assert len(case.starts()) == 2, case.said()


def test_nothing_survives_a_killed_lab_run(root):
    for deaf in [False] * TIMES + [True]:  # a stopped launcher does not do as it is told
        case = Case(root)
        case.until_saved()
        everything = children(case.process.pid)
        if deaf:
            os.kill(case.launcher(), signal.SIGSTOP)
        case.process.kill()
        case.process.wait()
        case.until("the end of launcher and sweeper", lambda: not any(read(f"/proc/{pid}/cmdline") for pid in everything))
        case.nothing_is_left()


def test_what_is_missing_is_named(root):
    def refused(code, words, *arguments, path=os.environ["PATH"]):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
        done = subprocess.run([BUILD / "lab_run", *map(str, arguments)], env={**environment, "PATH": path},
                              capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == code and words in done.stderr, (arguments, done)

    refused(64, "how many ranks", "/bin/true")
    refused(64, "did you mean --restarts", "-np", 2, "--restart", 3, "/bin/true")
    refused(64, "no program", "-np", 2)
    refused(66, "no-such-program", "-np", 2, "no-such-program")
    refused(66, str(root / "none"), "-np", 2, root / "none")
    refused(69, "mpirun", "-np", 2, "/bin/true", path=str(root))


def main():
    root = pathlib.Path(tempfile.mkdtemp(prefix="lab_run_test_"))
    try:
        for name, test in [(name, value) for name, value in globals().items() if name.startswith("test_")]:
            start = time.monotonic()
            test(root)
            print(f"{name}: passed in {time.monotonic() - start:.1f} s", flush=True)
    finally:
        for case in CASES:
            case.process.kill()
        shutil.rmtree(root, ignore_errors=True)


main()
