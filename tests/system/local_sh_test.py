"""launch/local.sh with a stand-in for the ranks: what it does with signals, exit codes and processors.

    local_sh_test.py BUILD_FOLDER
"""

import os
import pathlib
import signal
import subprocess
import tempfile
import time

SCRIPT = pathlib.Path("launch/local.sh").resolve()
# Trains until it is told to stop; saving takes a while. A second signal ends it at once.
RANK = """#!/usr/bin/env python3
import os, pathlib, signal, sys, time
def stop(number, _):
    signal.signal(number, signal.SIG_DFL)
    pathlib.Path("told-" + rank).touch()
    time.sleep(float(sys.argv[1]))
    pathlib.Path("saved-" + rank).touch()
    os._exit(75)
rank = os.environ["OMPI_COMM_WORLD_RANK"]
signal.signal(signal.SIGUSR1, stop)
pathlib.Path("ready-" + rank).touch()
time.sleep(200)
"""


def wait_for(folder, name):
    for _ in range(600):
        if len(list(folder.glob(f"{name}-*"))) == 2:
            return
        time.sleep(0.1)
    raise AssertionError(f"a rank is not {name}: {sorted(path.name for path in folder.iterdir())}")


def stopped(folder, first, second=None):
    """local.sh's exit code, and how many ranks saved."""
    for file in folder.glob("*-?"):
        file.unlink()
    script = subprocess.Popen([SCRIPT, "-np", "2", folder / "rank", "200" if second else "3"], cwd=folder, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_for(folder, "ready")
    script.send_signal(first)
    if second:
        wait_for(folder, "told")
        script.send_signal(second)
    return script.wait(120), len(list(folder.glob("saved-*")))


def output(*words, start=()):
    done = subprocess.run([*start, SCRIPT, *words], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout


def seen(ranks):
    """How many processors each rank may use. Told in files: mpirun may mix up what two ranks say at once."""
    with tempfile.TemporaryDirectory() as folder:
        tell = f"import os; open('{folder}/' + os.environ['OMPI_COMM_WORLD_RANK'], 'w').write(str(len(os.sched_getaffinity(0))))"
        code, said = output("-np", str(ranks), "python3", "-c", tell)
        assert code == 0, said
        return [int(file.read_text()) for file in sorted(pathlib.Path(folder).iterdir())]


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "rank").write_text(RANK)
        (folder / "rank").chmod(0o755)
        for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            assert (code := stopped(folder, sign)) == (75, 2), f"{sign.name}: exit code, saved: {code}"
        for sign in (signal.SIGINT, signal.SIGTERM):
            code = stopped(folder, sign, sign)
            assert code == (128 + signal.SIGUSR1, 0), f"{sign.name} twice: exit code, saved: {code}"
    for code in (0, 66, 93):
        assert output("-np", "2", "sh", "-c", f"exit {code}")[0] == code
    for words in ((), ("-np",), ("-np", "0", "true"), ("-np", "two", "true"), ("-n", "2", "true")):
        assert output(*words)[0] == 64, words

    processors = sorted(os.sched_getaffinity(0))
    assert seen(len(processors)) == len(processors) * [1 if len(processors) == os.cpu_count() else len(processors)]
    assert seen(1) == [len(processors)], "one rank has not all processors"
    assert seen(len(processors) + 1) == (len(processors) + 1) * [len(processors)], "more ranks than processors"
    code, said = output("-np", "1", "python3", "-c", "import os; print(*os.sched_getaffinity(0))", start=["taskset", "-c", str(processors[-1])])
    assert said.split() == [str(processors[-1])], f"outside of the processors that we were given: {said}"


if __name__ == "__main__":
    main()
