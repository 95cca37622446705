"""--debug: what is said of an exception, and that the program then waits until a debugger has it.

    debug_test.py BUILD_FOLDER
"""

import ctypes
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

import h5py
import numpy as np
from programs import BUILD, ENVIRONMENT, run, settings

SECONDS = 120
SYSTEM_CALL = ctypes.CDLL(None, use_errno=True).ptrace
ATTACH, CONTINUE, DETACH = 16, 7, 17


def ptrace(request, pid, number=0):
    if SYSTEM_CALL(request, pid, None, ctypes.c_void_p(number)) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request} of {pid}")


def look_at(pid):
    """As a debugger does: stops the process, lets it go on to where it stops itself, and leaves it."""
    ptrace(ATTACH, pid)
    assert os.WSTOPSIG(os.waitpid(pid, 0)[1]) == signal.SIGSTOP
    ptrace(CONTINUE, pid)
    stopped_by = os.WSTOPSIG(os.waitpid(pid, 0)[1])
    ptrace(DETACH, pid)
    return stopped_by


class Run:
    def __init__(self, root, ranks, fails):
        self.stderr = root / f"{fails}-{ranks}.txt"
        command = ["mpirun", "-np", str(ranks), "--oversubscribe", BUILD / "debug_tool", root / "failing.toml", "-o",
                   "--debug", *settings({"config.fails": fails})]
        with open(self.stderr, "w", encoding="utf-8") as stderr:
            self.process = subprocess.Popen(list(map(str, command)), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=stderr,
                                            start_new_session=True)

    def said(self):
        return self.stderr.read_text(encoding="utf-8")

    def waiting(self):
        """The process id of the rank that waits."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            if found := re.search(r"waiting for a debugger, on \S+: gdb -p (\d+)", self.said()):
                return int(found[1])
            assert self.process.poll() is None, f"ended with {self.process.returncode} and did not wait:\n{self.said()}"
            time.sleep(0.1)
        raise TimeoutError(self.said())

    def ended(self):
        try:
            return self.process.wait(SECONDS)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)


def in_a_step(root):
    """Sample 41 is in the third batch of 16: on rank 1 of 2, which has its second half."""
    one = Run(root, 2, "loss")
    pid = one.waiting()
    said = one.said()
    for words in ("[rank 1 of 2] warning: --debug: unexpected error: no loss", "in step 2, batch 2 of epoch 0, samples 40, 41",
                  "std::runtime_error thrown by", "fail_here(", "lab::Trainer::fit()", "0.weight, gradient", "not finite"):
        assert words in said, f"{words} is not in\n{said}"
    assert re.search(r"^  x +f32 +\[8, 4\] +-\S+ +\S+ +\S+ +0$", said, re.M), said
    assert said.count(" thrown by") == 1, said
    time.sleep(1)
    assert one.process.poll() is None, "it did not wait"
    assert look_at(pid) == signal.SIGTRAP
    assert one.ended() == 70 and "error: unexpected error: no loss" in one.said(), one.said()
    print(said, flush=True)


def in_a_transform(root):
    """Thrown in the thread that reads, and handed on."""
    one = Run(root, 1, "transform")
    pid = one.waiting()
    assert "fail_here(" in one.said() and "sample 41" in one.said(), one.said()
    assert look_at(pid) == signal.SIGTRAP
    assert one.ended() == 65, one.said()


def before_there_is_a_step(root):
    """All ranks fail alike: one of them waits, and a signal ends that."""
    one = Run(root, 2, "plan")
    pid = one.waiting()
    assert "fail_here(" in one.said() and one.said().count("waiting for a debugger") == 1, one.said()
    os.kill(pid, signal.SIGTERM)
    assert one.ended() == 70, one.said()


def not_for_mistakes(root):
    """Nothing is to be looked into in a wrong config, nor without --debug."""
    for words, code in ((["--debug", "--set", "config.fails=no"], 78), (["--set", "config.fails=loss"], 70)):
        done = run(1, "debug_tool", root / "failing.toml", "-o", *words)
        assert done.returncode == code and "debugger" not in done.stderr and "thrown by" not in done.stderr, done.stderr
    done = run(2, "debug_tool", root / "failing.toml", "-o", "--debug", *settings({"config.fails": "never"}))
    assert done.returncode == 0, done.stderr


def main():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        random = np.random.default_rng(1)
        with h5py.File(root / "data.h5", "w") as out:
            out["x"] = random.normal(size=(64, 4)).astype(np.float32)
            out["labels"] = random.integers(0, 3, 64).astype(np.uint8)
        (root / "failing.toml").write_text(f'experiment = "failing"\n[trainer.init]\nmax_epochs = 1\n'
                                           f'default_root_dir = "{root}/runs"\n[config]\ndata = "{root}/data.h5"\n')
        in_a_step(root)
        in_a_transform(root)
        before_there_is_a_step(root)
        not_for_mistakes(root)


if __name__ == "__main__":
    main()
