"""What recording a run in ClearML costs its training, against --offline: with a server that is well, and with others.

    tracking_cost.py BUILD_FOLDER [--rounds N] [--epochs E] [--ranks R] [--only WORDS]    of the server's kind

For a quiet machine. In each round every run beside a server is between two of --offline, and is held against their
mean; printed are the medians over the rounds with the least and the most. The A/A control holds each run of --offline
against those next to it. Training is from the end of the first step to that of the last epoch, by the times in log.txt;
the end is from there until the program is gone. The processor time is that of all ranks from start to end, which other
work on the machine disturbs least. The server has the machine's last core, and the ranks, with all that they do to send,
the others. Not a test.
"""

import argparse
import contextlib
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

SYSTEM = pathlib.Path(__file__).parents[1] / "system"
sys.path.insert(0, str(SYSTEM))

from clearml_runs import Place, moment_of  # noqa: E402

CORES = sorted(os.sched_getaffinity(0))
WRITES = "(events[.]add_batch|tasks[.](create|edit|started|completed)|models[.](create|edit)|files[.]upload)"


class Server:
    """A stand-in that runs beside."""

    def __init__(self, said):
        self._said = said

    def environment(self):
        return self._said["environment"]

    def __call__(self, command, **arguments):
        request = urllib.request.Request(f"{self._said['control']}/{command}", json.dumps(arguments).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def close(self):
        for host in ("api", "files"):
            self("close_port", host=host)

    def open(self):
        for host in ("api", "files"):
            self("open_port", host=host)


def fault(kind, **options):
    return lambda server: server("add_fault", kind=kind, **options)


def beside(action):
    """Does it once the run has sent its first points."""
    def wait(server):
        with contextlib.suppress(OSError):  # the server has ended with the run
            while not server("requests", endpoint="events.add_batch"):
                time.sleep(0.2)
            action(server)
    return lambda server: threading.Thread(target=wait, args=(server,), daemon=True).start()


def revoke_each_second(server):
    while True:
        server("revoke_tokens")
        time.sleep(1)


def restart(server):
    server.close()
    time.sleep(2)
    server.open()


SERVERS = {  # what each does, and how it is brought to that
    "is well": lambda server: None,
    "is not there": Server.close,
    "accepts, never answers": fault("hang"),
    "answers 500": fault("answer", code=500, subcode=100),
    "answers 429": fault("answer", code=429, headers={"Retry-After": "1"}),
    "answers after 5 s": fault("slow", seconds=5),
    "breaks off its answers": fault("truncate", where=WRITES),
    "answers with a page": fault("garble", where=WRITES),
    "revokes its tokens each second": beside(revoke_each_second),
    "is restarted": beside(restart),
    "dies": beside(Server.close),
}


@contextlib.contextmanager
def running(folder, spoil):
    command = [sys.executable, SYSTEM / "clearml_server.py", "--folder", folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            os.sched_setaffinity(process.pid, CORES[-1:])
            server = Server(json.loads(process.stdout.readline()))
            spoil(server)
            yield server
        finally:
            process.terminate()


def processor_time():
    """Seconds of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def once(words, spoil, arguments):
    """Seconds of one run: (training, its end, processor time)."""
    with tempfile.TemporaryDirectory() as folder, running(folder, spoil) as server:
        place = Place(pathlib.Path(folder) / "place", server)
        before = processor_time()
        done = place.train(*words, ranks=arguments.ranks, values={
            "trainer.init.max_epochs": arguments.epochs, "trainer.init.log_every_n_steps": 1,
            "config.n_features": 16, "trainer.init.enable_checkpointing": "false"})  # no disk that swings
        used = processor_time() - before
        last = moment_of(place.run(), "Finished epoch")
        return last - moment_of(place.run(), "first step done"), done.ended - last, used


def against(run, before, after):
    """Of a run and those of --offline next to it: the ratio of the speeds, by how much its end is longer, and its
    processor time over theirs."""
    training, end, used = ((a + b) / 2 for a, b in zip(before, after))
    return training / run[0], run[1] - end, run[2] / used


def a_round(servers, arguments):
    """Per server, and for the A/A control, what against() gives."""
    chain = [once(["-o"], SERVERS["is well"], arguments)]
    for name in servers:
        chain.append(once([], SERVERS[name], arguments))
        chain.append(once(["-o"], SERVERS["is well"], arguments))
    found = {name: [against(chain[2 * i + 1], chain[2 * i], chain[2 * i + 2])]
             for i, name in enumerate(servers)}
    offline = chain[::2]
    return {"A/A": [against(b, a, c) for a, b, c in zip(offline, offline[1:], offline[2:])], **found}


def told(name, values, unit=""):
    print(f"{name:52} {statistics.median(values):7.3f}{unit}  ({min(values):.3f} to {max(values):.3f})", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--ranks", type=int, default=len(CORES) - 1)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()

    os.sched_setaffinity(0, CORES[:-1])
    servers = [name for name in SERVERS if arguments.only in name]
    found = {name: [] for name in ["A/A", *servers]}
    for i in range(arguments.rounds):
        print(f"round {i + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
        for name, values in a_round(servers, arguments).items():
            found[name] += values
            for speed, _, used in values:
                print(f"  {name}: speed {speed:.3f}, processor time {used:.3f}", file=sys.stderr, flush=True)
    for name, values in ((name, values) for name, values in found.items() if values):
        speeds, ends, used = zip(*values)
        told("speed offline / offline (A/A)" if name == "A/A" else f"speed with a server that {name} / offline", speeds)
        told("  processor time", used)
        told("  its end longer by", ends, " s")


if __name__ == "__main__":
    main()
