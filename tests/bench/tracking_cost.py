"""What recording a run in ClearML costs its training, against --offline: with a server that is well, and with others.

    tracking_cost.py BUILD_FOLDER [--rounds N] [--epochs E] [--ranks R]

For a quiet machine. The sides run in A-B-B-A rounds; printed are the medians of their ratios with the least and the
most, and an A/A control. Training is from the end of the first step to that of the last epoch, by the times in log.txt;
the end is from there until the program is gone. The server is a process of its own, of the lowest priority. Not a test.
"""

import argparse
import contextlib
import json
import pathlib
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


def once(words, fault, arguments):
    """(seconds of training, seconds of the end) of one run."""
    with tempfile.TemporaryDirectory() as folder, running(folder, fault) as server:
        place = Place(pathlib.Path(folder) / "place", server)
        done = place.train(*words, ranks=arguments.ranks, values={
            "trainer.init.max_epochs": arguments.epochs, "trainer.init.log_every_n_steps": 1, "config.n_features": 16})
        last = moment_of(place.run(), "Finished epoch")
        return last - moment_of(place.run(), "first step done"), done.ended - last


def against(a, b, rounds):
    """Per A-B-B-A round: the ratio of the speeds of a and b, and by how much the end of a is longer."""
    speeds, ends = [], []
    for _ in range(rounds):
        sides = [side() for side in (a, b, b, a)]
        speeds.append((sides[1][0] + sides[2][0]) / (sides[0][0] + sides[3][0]))
        ends.append((sides[0][1] + sides[3][1] - sides[1][1] - sides[2][1]) / 2)
    return speeds, ends


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

    speeds, _ = against(offline, offline, arguments.rounds)
    told("speed offline / offline (A/A)", speeds)
    for name, fault in SERVERS.items():
        speeds, ends = against(lambda: once([], fault, arguments), offline, arguments.rounds)
        told(f"speed with a server that {name} / offline".replace("that well", "that is well"), speeds)
        told("  its end longer by", ends, " s")


if __name__ == "__main__":
    main()
