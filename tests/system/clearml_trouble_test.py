"""Runs beside a ClearML server that fails in every way: training does not notice, and lab_sync brings all of it there.

    clearml_trouble_test.py BUILD_FOLDER [--runs N]    N: how often each kind of trouble is tried (default 1)

Several kinds are tried at the same time, as they mostly wait.
"""

import os
import signal
import sys
import tempfile
import threading
import urllib.parse

from clearml_runs import (LONG, Place, beside_a_server, check_complete, console_of, cut_off, do_all, json_of, log_of,
                          moment_of, points_of, recorded_points, rows_of, task_of, wait_for_checkpoint, wait_until, without)
from programs import sha256

AT_ONCE = 4
END, MARGIN = 10, 20  # seconds: what a server may cost at the end, and a machine that is busy
VALUES = {"trainer.init.numerics": "canonical", "task.tags": '["trouble"]'}
SAVED = "checkpoints/last.safetensors"
WRITES = "(events[.]add_batch|tasks[.](create|edit|started|completed)|models[.](create|edit)|files[.]upload)"


def closed(server):
    for host in ("api", "files"):
        server.close_port(host)


def opened(server):
    server.faults.clear()
    for host in ("api", "files"):
        server.open_port(host)


def when_points_come(server, action):
    """Does it beside the run, as soon as the server has got something."""
    def wait():
        wait_until(lambda: server.store.points, "the first points")
        action()
    threading.Thread(target=wait, daemon=True).start()


def fault(kind, **options):
    return lambda server: server.faults.add(kind, **options)


def revoked(server):
    when_points_come(server, server.auth.revoke)


def restarted(server):
    def action():
        closed(server)
        threading.Event().wait(2)
        opened(server)
    when_points_come(server, action)


def dies(server):
    when_points_come(server, lambda: closed(server))


TROUBLE = {  # what befalls the server before, or while, the run is there
    "refuses": closed,
    "never answers": fault("hang"),
    "never takes points": fault("hang", where="events[.]add_batch"),
    "answers 500": fault("answer", code=500, subcode=100),
    "answers 503 of a proxy": fault("answer", code=503, body="<html>busy</html>"),
    "answers 429": fault("answer", code=429, headers={"Retry-After": "1"}),
    "is slow": fault("slow", seconds=5),
    "breaks off its answers": fault("truncate", where=WRITES, times=12),
    "loses its answers": fault("drop_after", where=WRITES, times=12),
    "closes the connection": fault("drop", times=20),
    "answers with a page": fault("garble", where=WRITES, times=12),
    "takes no files": fault("answer", where="files[.]upload", code=500, body="no room"),
    "revokes its tokens": revoked,
    "is restarted": restarted,
    "dies": dies,
}


def reads(endpoint):
    return endpoint == "auth.login" or ".get" in endpoint


def writes_of(server):
    return [request.endpoint for request in server.records.requests if not reads(request.endpoint)]


def trouble(name, plain_weights):
    """One run with one kind of it."""
    with beside_a_server() as (place, server, _):
        TROUBLE[name](server)
        done = place.train(values=VALUES)
        folder = place.run()
        delay = done.ended - moment_of(folder, "finished after")
        assert delay < END + MARGIN, f"{name}: gone only {delay:.1f} s after the end of training"
        assert sha256(folder / SAVED) == plain_weights, f"{name}: other weights"
        assert json_of(folder)["status"] == "completed", json_of(folder)
        opened(server)
        place.sync(folder)
        task = check_complete(server, folder)
        assert task["name"] == "mnist-mnist_v0" and len(server.store.tasks) == 1, f"{name}: {task['name']}"
        models = {slot["name"]: server.store.models[slot["model"]] for slot in task["models"]["output"]}
        assert set(models) == {"best", "last"} and len(server.store.models) == 2, (name, models)
        for slot, row in models.items():
            stored = server.store.file(urllib.parse.unquote(urllib.parse.urlsplit(row["uri"]).path))
            assert sha256(stored) == sha256(folder / "checkpoints" / f"{slot}.safetensors"), (name, slot)
        before = writes_of(server)
        place.sync(folder)
        assert writes_of(server) == before, f"{name}: a second lab_sync sent {writes_of(server)[len(before):]}"
        return f"the server {name}: gone {delay:.1f} s after the end, the same weights, all there after lab_sync"


def unknown_host():
    """A name that nobody has; and what lab_sync says for as long as that is so."""
    with beside_a_server() as (place, server, _):
        nowhere = {"CLEARML_API_HOST": "http://clearml.invalid:8008"}
        place.train(values=VALUES, environment=nowhere)
        folder = place.run()
        assert json_of(folder)["name"] == folder.name == "mnist-mnist_pending", folder
        assert not json_of(folder)["task_id"], json_of(folder)
        done = place.sync(folder, code=69, environment=nowhere)
        assert "clearml.invalid" in done.said + done.out, done
        place.sync(place.folder / "no-such-run", code=66)
        place.sync(folder)
        check_complete(server, folder)
        assert json_of(folder)["name"] == "mnist-mnist_v0" and folder.name == "mnist-mnist_pending"
        return "an unknown host: pending, lab_sync 69; with the right one it is mnist-mnist_v0"


def killed(resumes):
    """All of it, with kill -9; then lab_sync, or --resume and lab_sync."""
    with beside_a_server() as (place, server, _):
        with place.start(values=LONG) as started:
            folder = wait_for_checkpoint(place)
            wait_until(lambda: server.store.points, "the first points")
            started.kill_all()
        task, cut = json_of(folder)["task_id"], cut_off(folder)
        if resumes:
            steps = max(step for (_, _, step), _ in rows_of(folder)) + 20
            place.train("--resume", values={**LONG, "trainer.init.max_steps": steps})
            place.sync(folder)
            row = check_complete(server, folder, cut=cut)
        else:
            place.sync(folder)
            row = task_of(server, folder)
            assert row["status"] in ("failed", "stopped"), row["status"]
            assert points_of(server, task) == recorded_points(folder)
            assert console_of(server, task) == without(log_of(folder), cut)
        assert row["id"] == task and len(server.store.tasks) == 1 and not server.records.violations
        return "killed: " + ("resumed, it goes on in its task" if resumes else "lab_sync says that it failed")


def a_rank_dies(which):
    with beside_a_server() as (place, server, _):
        with place.start(values=LONG) as started:
            folder = wait_for_checkpoint(place)
            os.kill(started.ranks()[which], signal.SIGKILL)
            assert started.wait().code != 0
        place.sync(folder)
        assert task_of(server, folder)["status"] == "failed", task_of(server, folder)["status"]
        return f"rank {which} of two dies: failed"


def main():
    runs = int(sys.argv[sys.argv.index("--runs") + 1]) if "--runs" in sys.argv else 1
    with tempfile.TemporaryDirectory() as folder:
        place = Place(folder + "/plain")
        place.train("-o", values=VALUES)
        weights = sha256(place.run() / SAVED)
    jobs = [(trouble, name, weights) for name in TROUBLE]
    jobs += [(unknown_host,), (killed, False), (killed, True), (a_rank_dies, 0), (a_rank_dies, 1)]
    do_all(jobs * runs, AT_ONCE)


if __name__ == "__main__":
    main()
