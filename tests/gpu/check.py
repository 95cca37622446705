"""Checks on one NVIDIA GPU what cannot be checked without one, and writes one report.

    check.py [--report FILE.md] [--build FOLDER] [--only STEP ...] [--rehearse] [--python PYTHON]

Each step has a time limit of its own, and all together one of 10 minutes; one that fails does not stop those behind it.
Exits with 0 if all passed, 1 if something failed, 69 where there is no GPU. Wants the standard library alone; the step
throughput starts another Python, which has torch.
"""

import argparse
import contextlib
import hashlib
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
TOTAL_SECONDS = 570  # what is under way when it is up still has to be ended
# In their order, with the most seconds that each may take.
STEPS = {"machine": 20, "build": 300, "conformance": 60, "calls": 60, "equality": 120, "synchronisations": 60,
         "throughput": 240, "memory": 90}
REHEARSAL = ("**This is a rehearsal on processors: it tries the script, and shows nothing about GPUs.** No figure in it "
             "is a measurement.")
NOT_SHOWN = """## What one GPU cannot show

- NVLink, NVSwitch and NVLS, and any transfer between GPUs: bandwidth of sums, and whether they overlap with backward.
- Scaling: throughput on several GPUs and nodes, weak and strong, with zero1 or without.
- GPUDirect: networks that reach the GPU's memory by themselves.
- Faults of a network or of a GPU during a sum between nodes, and what is told about a kernel that hangs in one.
- The choice of GPUs by local rank where a node has several, and ranks that see different ones.
- With two ranks on one GPU (NCCL 2.30 and later) only results count: they take turns on its processors.
"""


class Failed(Exception):
    """A step's finding against what was to be shown: what, and what to do next."""


class TimeIsUp(Exception):
    pass


@contextlib.contextmanager
def limited(seconds):
    """TimeIsUp within the block after so many seconds, whatever it waits for."""
    def ring(*_):
        raise TimeIsUp(f"not done after {seconds:.0f} s")

    if seconds < 1:
        raise TimeIsUp(f"no time is left of the {TOTAL_SECONDS} s for all steps")
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Report:
    """Written anew after each step, so that it is there whatever comes next."""

    def __init__(self, path, rehearse):
        self.path, self.results, self.rehearse = path, {}, rehearse
        self._sections = []

    def add(self, name, result, seconds, lines):
        self.results[name] = result
        section = [f"## {len(self.results)}. {name}: {result} ({seconds:.0f} s)", "", *lines, ""]
        self._sections += section
        print("\n".join(section), flush=True)
        self.path.write_text("\n".join(self._head() + self._sections) + "\n" + NOT_SHOWN, encoding="utf-8")

    def _head(self):
        good = sum(result == "passed" for result in self.results.values())
        head = ["# GPU check", "", *([REHEARSAL, ""] if self.rehearse else [])]
        return [*head, f"{good} of {len(self.results)} steps passed, {time.strftime('%Y-%m-%d %H:%M %Z')}", ""]


def performed(step, seconds):
    """What became of a step, and its lines."""
    lines = []
    try:
        with limited(seconds):
            step(lines.append)
        return "passed", lines
    except (Failed, TimeIsUp, subprocess.TimeoutExpired) as problem:
        said = str(problem)
    except Exception:  # a step's own mistake is no reason to leave out the others
        said = traceback.format_exc()
    return "FAILED", [*lines, "", *(f"    {line}" for line in said.strip().splitlines())]


def tests_python():
    """The one that scripts/setup --tests makes, if it is there."""
    digest = hashlib.sha256((REPOSITORY / "tests/requirements.txt").read_bytes()).hexdigest()[:8]
    python = pathlib.Path.home() / f".cache/lab/test-venv-{digest}/bin/python"
    return str(python) if python.exists() else sys.executable


def command_line():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=pathlib.Path, default=pathlib.Path("gpu_check.md"))
    parser.add_argument("--build", type=pathlib.Path, help="a built tree; else the preset cuda is built as far as needed")
    parser.add_argument("--only", action="append", choices=list(STEPS))
    parser.add_argument("--rehearse", action="store_true", help="on processors: tries this script, and shows nothing else")
    parser.add_argument("--python", default=tests_python(), help="one with torch; else the tests' own")
    arguments = parser.parse_args()
    if arguments.build and not (arguments.build / "CMakeCache.txt").exists():
        parser.error(f"--build {arguments.build} is no build folder: it has no CMakeCache.txt")
    return arguments


def has_gpu():
    if not shutil.which("nvidia-smi"):
        return False
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20)
    return listed.returncode == 0 and "GPU 0" in listed.stdout


def main():
    arguments = command_line()
    if not arguments.rehearse and not has_gpu():
        print("error: no GPU: nvidia-smi is missing or lists none; run this on a machine with an NVIDIA GPU and its driver, "
              "or try the script itself with --rehearse", file=sys.stderr)
        return 69
    build = (arguments.build or REPOSITORY / "build-cuda").resolve()
    sys.argv[1:] = [str(build)]  # where tests/system/programs.py looks for it
    from steps import Steps

    end = time.monotonic() + TOTAL_SECONDS
    report = Report(arguments.report.resolve(), arguments.rehearse)
    with tempfile.TemporaryDirectory() as folder:
        steps = Steps(pathlib.Path(folder), build, arguments.build is None, arguments.rehearse, arguments.python)
        for name, seconds in STEPS.items():
            if arguments.only and name not in arguments.only:
                continue
            start = time.monotonic()
            result, lines = performed(getattr(steps, name), min(seconds, end - start))
            report.add(name, result, time.monotonic() - start, lines)
    good = all(result == "passed" for result in report.results.values())
    print(f"{'all passed' if good else 'not all passed'}; the report is {report.path}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.modules["check"] = sys.modules[__name__]  # its Failed is that of the steps
    sys.exit(main())
