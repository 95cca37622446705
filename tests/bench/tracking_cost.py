"""What recording a run in ClearML costs its training, against --offline: with a server that is well, and with others.

    tracking_cost.py BUILD_FOLDER [--rounds N] [--epochs E] [--ranks R]

For a quiet machine. The sides run in A-B-B-A rounds; printed are the medians of their ratios with the least and the
most, and an A/A control. Training is from the end of the first step to that of the last epoch, by the times in log.txt;
the end is from there until the program is gone. The processor time is that of all ranks from start to end, which other
work on the machine disturbs least. The server is a process of its own, of the lowest priority. Not a test.
"""

import argparse
import contextlib
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import urllib.request

SYSTEM = pathlib.Path(__file__).parents[1] / "system"
sys.path.insert(0, str(SYSTEM))

from clearml_runs import Place, moment_of  # noqa: E402

SERVERS = {
    "well": None,
    "accepts, never answers": {"kind": "hang"},
    "answers 500": {"kind": "answer", "code": 500},
    "answers after 5 s": {"kind": "slow", "seconds": 5},
}


class Server:
    """A stand-in that runs beside, with one fault or none."""

    def __init__(self, said):
        self._said = said

    def environment(self):
        return self._said["environment"]

    def add(self, fault):
        request = urllib.request.Request(f"{self._said['control']}/add_fault", json.dumps(fault).encode())
        urllib.request.urlopen(request, timeout=10).close()


@contextlib.contextmanager
def running(folder, fault):
    command = ["nice", "-n", "19", sys.executable, SYSTEM / "clearml_server.py", "--folder", folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            server = Server(json.loads(process.stdout.readline()))
            if fault:
                server.add(fault)
            yield server
        finally:
            process.terminate()


def processor_time():
    """Seconds of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def once(words, fault, arguments):
    """Seconds of one run: (training, its end, processor time)."""
    with tempfile.TemporaryDirectory() as folder, running(folder, fault) as server:
        place = Place(pathlib.Path(folder) / "place", server)
        before = processor_time()
        done = place.train(*words, ranks=arguments.ranks, values={
            "trainer.init.max_epochs": arguments.epochs, "trainer.init.log_every_n_steps": 1, "config.n_features": 16})
        used = processor_time() - before
        last = moment_of(place.run(), "Finished epoch")
        return last - moment_of(place.run(), "first step done"), done.ended - last, used


def against(a, b, rounds):
    """Per A-B-B-A round: the ratio of the speeds of a and b, by how much the end of a is longer, and a's processor time
    over that of b."""
    speeds, ends, used = [], [], []
    for _ in range(rounds):
        sides = [side() for side in (a, b, b, a)]
        (a_time, b_time), (a_end, b_end), (a_used, b_used) = [
            (sides[0][i] + sides[3][i], sides[1][i] + sides[2][i]) for i in range(3)]
        speeds.append(b_time / a_time)
        ends.append((a_end - b_end) / 2)
        used.append(a_used / b_used)
    return speeds, ends, used


def told(name, values, unit=""):
    print(f"{name:52} {statistics.median(values):7.3f}{unit}  ({min(values):.3f} to {max(values):.3f})", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--ranks", type=int, default=2)
    arguments = parser.parse_args()

    def offline():
        return once(["-o"], None, arguments)

    speeds, _, used = against(offline, offline, arguments.rounds)
    told("speed offline / offline (A/A)", speeds)
    told("  processor time", used)
    for name, fault in SERVERS.items():
        speeds, ends, used = against(lambda: once([], fault, arguments), offline, arguments.rounds)
        told(f"speed with a server that {name} / offline".replace("that well", "that is well"), speeds)
        told("  processor time", used)
        told("  its end longer by", ends, " s")


if __name__ == "__main__":
    main()
