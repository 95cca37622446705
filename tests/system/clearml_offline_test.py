"""Runs with --offline, and without a ClearML server: no socket is opened, and what they leave can be imported with the
official SDK.

    clearml_offline_test.py BUILD_FOLDER
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import clearml_sdk
from clearml_runs import (LONG, Started, beside_a_server, console_of, copy_digits, difference, json_of, log_of,
                          points_of, rows_of, wait_for_checkpoint)

INTERNET = re.compile(r"\bsocket\((PF|AF)_INET6?\b")
ADDRESS = re.compile(r"sin6?_port=htons\((\d+)\).*?\"([^\"]+)\"")
NAME_SERVICE = 53


def strace_works(folder):
    """Whether a process can be watched here."""
    if not shutil.which("strace"):
        return False
    probe = ["strace", "-ff", "--seccomp-bpf", "-o", folder / "probe", "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def watched(place, *words, ranks):
    """Lines of the system calls of the network, of all processes of a run."""
    traces = pathlib.Path(tempfile.mkdtemp(dir=place.folder))
    command = place.command(*words, ranks=ranks, values={"trainer.init.max_steps": 4})
    watch = ["strace", "-ff", "--seccomp-bpf", "-e", "trace=network", "-o", traces / "of"]
    with Started([*watch, *command], place.environment, place.work) as started:
        done = started.wait()
    assert done.code == 0, done.said
    return [line for trace in traces.iterdir() for line in trace.read_text(errors="replace").splitlines()]


def hosts_spoken_to(lines):
    """{(port, address)}"""
    return {(int(port), address) for line in lines if re.search(r"\b(connect|sendto|sendmsg|sendmmsg)\(", line)
            for port, address in ADDRESS.findall(line)}


def no_socket_alone(place, server, _client):
    lines = watched(place, "-o", ranks=0)
    opened = [line for line in lines if INTERNET.search(line)]
    assert not opened, opened
    assert not server.records.requests
    assert any(INTERNET.search(line) for line in watched(place, ranks=0)), "even a run that is not offline makes none"
    print(f"-o, one rank: {len(lines)} calls of the network, none makes an internet socket", flush=True)


def no_socket_but_of_mpi(place, server, _client):
    """MPI's own processes speak to each other over this machine's addresses; nothing else may be spoken to."""
    lines = watched(place, "-o", ranks=2)
    spoken_to = hosts_spoken_to(lines)
    ports = {listener.port for listener in server.listeners.values()}
    bad = [(port, address) for port, address in spoken_to if port in ports or port == NAME_SERVICE]
    assert not bad and not server.records.requests, bad
    online = hosts_spoken_to(watched(place, ranks=2))
    assert ports & {port for port, _ in online}, "even a run that is not offline is not seen"
    print(f"-o, two ranks: spoken to {len(spoken_to)} addresses, no name service and no host of ClearML", flush=True)


def session_of(folder):
    sessions = list((folder / "clearml_offline").glob("offline-*"))
    assert len(sessions) == 1 and re.fullmatch("offline-[0-9a-f]{32}", sessions[0].name), sessions
    return sessions[0]


def imported(place, server, folder):
    """The row of the task that the SDK makes of the run's session, and what the SDK reads of it."""
    environment = clearml_sdk.sandbox(place.folder / f"sdk-{folder.name}", server.environment())
    task = clearml_sdk.call(environment, "import", session_of(folder))["id"]
    seen = clearml_sdk.call(environment, "read", task, environment["HOME"])
    with server.store.lock:
        return dict(server.store.row("tasks", task)), seen


def check_imported(server, folder, task, seen):
    """It shows what the folder holds."""
    assert points_of(server, task["id"]) == dict(rows_of(folder))
    shown, said = console_of(server, task["id"]), log_of(folder)
    assert shown == said, difference(shown, said)
    assert seen["configuration"]["config"] == (folder / "config.toml").read_text()
    assert seen["name"] == json_of(folder)["name"] and seen["parameters"]["hparams/config/batch_size"] == "64"
    files = {pathlib.Path(model["file"]).read_bytes() for model in seen["models"].values()}
    assert files == {(folder / "checkpoints" / f"{slot}.safetensors").read_bytes() for slot in ("best", "last")}
    assert all(model["uri"].startswith(server.addresses["files"]) for model in seen["models"].values()), seen["models"]


def a_session_is_imported(place, server, _client):
    done = place.train("-o", values={"task.project_name": "Imported (#1)", "task.tags": '["one"]'})
    folder = place.run()
    assert str(session_of(folder)) in done.said, done.said
    assert json_of(folder)["task_id"] == "" and folder.name == "mnist-mnist_offline" and not server.records.requests
    task, seen = imported(place, server, folder)
    check_imported(server, folder, task, seen)
    assert seen["project"] == "Imported (#1)" and "one" in seen["tags"] and seen["status"] == "completed", seen
    print(f"-o: the session is imported, with {len(rows_of(folder))} points, console and both models", flush=True)


def a_failed_one_says_so(place, server, _client):
    copy_digits(place.folder / "bad.h5", bad_sample=300)
    place.train("-o", values={"config.data": place.folder / "bad.h5"}, code=65)
    environment = clearml_sdk.sandbox(place.folder / "sdk", server.environment())
    task = clearml_sdk.call(environment, "import", session_of(place.run()))["id"]
    with server.store.lock:
        row = dict(server.store.row("tasks", task))
    assert "failed" in " ".join([*row["tags"], row["comment"]]), row
    print("-o: a run that failed is imported, and says that it failed", flush=True)


def a_killed_one_is_imported(place, server, _client):
    """lab_sync --offline makes the session that the run could not make."""
    with place.start("-o", values=LONG) as started:
        folder = wait_for_checkpoint(place)
        started.kill_all()
    assert not (folder / "clearml_offline").exists()
    place.sync("--offline", folder)
    assert not server.records.requests
    task, seen = imported(place, server, folder)
    check_imported(server, folder, task, seen)
    print("-o: killed, lab_sync --offline makes the session, which is imported", flush=True)


def main():
    for part in (a_session_is_imported, a_failed_one_says_so, a_killed_one_is_imported):
        with beside_a_server() as (place, server, client):
            part(place, server, client)
    for part in (no_socket_alone, no_socket_but_of_mpi):
        with beside_a_server() as (place, server, client):
            if not strace_works(place.folder):
                print("calls of the network are not looked at: strace is missing or may not watch", file=sys.stderr)
                sys.exit(77)
            part(place, server, client)


if __name__ == "__main__":
    main()
