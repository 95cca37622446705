"""Holds the stand-in for a ClearML server against its rules and against the official SDK.

    clearml_server_test.py BUILD_FOLDER    the folder is not looked at: nothing of lab is run
"""

import json
import pathlib
import tempfile
import urllib.parse
import zipfile

import clearml_sdk
from clearml_requests import MOMENT, running, scalar


def check_statuses():
    with running() as (server, client):
        task = client.task()
        status = lambda: client.data("tasks.get_by_id", task=task)["task"]["status"]  # noqa: E731
        assert client.call("tasks.completed", {"task": task})[:2] == (400, 110)
        assert client.call("tasks.edit", {"task": "0" * 32, "comment": "x"})[:2] == (400, 101)
        client.data("tasks.started", task=task)
        assert status() == "in_progress"
        assert client.call("tasks.edit", {"task": task, "comment": "x"})[:2] == (400, 110)
        client.data("tasks.edit", task=task, comment="x", force=True)
        client.data("tasks.failed", task=task, status_reason="r", status_message="m")
        assert client.call("tasks.started", {"task": task})[:2] == (400, 110)
        client.data("tasks.started", task=task, force=True)
        client.data("tasks.completed", task=task)
        client.data("tasks.completed", task=task)
        assert status() == "completed"
        model = client.data("models.create", name="a model", uri="file:///x", ready=False)["id"]
        assert client.call("tasks.add_or_update_model", {"task": task, "name": "best", "model": model, "type": "output"}
                           )[:2] == (400, 110)
        client.data("models.set_ready", model=model, publish_task=False)
        assert client.call("models.set_ready", {"model": model})[:2] == (400, 203)
        client.data("tasks.publish", task=task)
        assert client.events(scalar(task))[:2] == (400, 131)
        assert not server.records.violations, server.records.violations


def check_merging():
    with running() as (server, client):
        task = client.task(script={"binary": "a", "branch": "b"})
        item = {"section": "s", "name": "n", "value": "1", "type": "int"}
        client.data("tasks.edit", task=task, script={"branch": "c"}, hyperparams={"s": {"n": item}}, runtime={"a": "1"})
        client.data("tasks.edit", task=task, hyperparams={"t": {"n": {**item, "section": "t"}}}, runtime={"b": "2"})
        client.data("tasks.edit_hyper_params", task=task, hyperparams=[{**item, "name": "m"}])
        client.data("tasks.edit_configuration", task=task, configuration=[{"name": "c", "value": "v", "type": "yaml"}])
        row = client.data("tasks.get_by_id", task=task)["task"]
        assert row["script"] == {"binary": "a", "branch": "c"} and row["runtime"] == {"b": "2"}, row
        assert {s: sorted(v) for s, v in row["hyperparams"].items()} == {"t": ["n"], "s": ["m"]}, row
        assert row["configuration"]["c"]["value"] == "v"
        assert not server.records.violations, server.records.violations


def check_search():
    with running() as (server, client):
        project = client.data("projects.create", name="A/B (x)", description="")["id"]
        assert client.call("projects.create", {"name": "A/B (x)", "description": ""})[:2] == (400, 801)
        found = client.data("projects.get_all", name=r"^A/B\ \(x\)$", only_fields=["id"], search_hidden=True)
        assert found["projects"] == [{"id": project}]
        assert len(client.data("projects.get_all", name="^A$")["projects"]) == 1  # the one above was made
        with server.store.lock:
            for i in range(1203):
                server.store.insert("tasks", name=f"exp_v{i}", status="created", project=project)
        ids, page = set(), 0
        while True:
            rows = client.data("tasks.get_all", project=[project], name=r"^exp_v\d+$", only_fields=["id"], page=page,
                               page_size=1000)["tasks"]
            ids |= {row["id"] for row in rows}
            if len(rows) < 500:
                break
            page += 1
        assert len(ids) == 1203 and page == 2, (len(ids), page)
        assert not client.data("tasks.get_all", name="EXP_V1")["tasks"]  # case counts, except in _any_
        assert len(client.data("tasks.get_all", _any_={"fields": ["name"], "pattern": "EXP_V1202"})["tasks"]) == 1
        assert not server.records.violations, server.records.violations


def check_events():
    with running() as (server, client):
        task = client.task()
        log = {"type": "log", "task": task, "timestamp": MOMENT, "level": "info", "msg": "m"}
        for _ in range(2):
            assert client.events(scalar(task), scalar(task, iter=2, value=1), log)[2]["added"] == 3
        code, _, data = client.events(scalar(task), scalar("0" * 32))
        assert code == 200 and data["added"] == 1 and data["errors"] == 1, data
        values = client.data("events.scalar_metrics_iter_histogram", task=task)["loss"]["train"]
        assert values["x"] == [1, 2] and values["y"] == [0.5, 1], values
        assert client.data("events.scalar_metrics_iter_histogram", task=task, samples=1)["loss"]["train"]["y"] == [0.75]
        assert client.data("events.get_task_log", task=task)["total"] == 2  # a log event that is repeated is doubled
        assert client.data("tasks.get_by_id", task=task)["task"]["last_iteration"] == 2
        assert not server.records.violations, server.records.violations


def check_files():
    with running() as (server, client):
        name = "/A (%231)/run.1/models/best.pt"
        status, _, body = client.upload(name, b"\x00\r\n--X\xff")
        assert (status, json.loads(body)) == (200, [name])
        path = urllib.parse.quote(name)
        assert client.send("files", "GET", path)[2] == b"\x00\r\n--X\xff"
        assert client.send("files", "HEAD", path)[0] == 200
        assert client.send("files", "GET", name.replace(" ", "%20"))[0] == 404  # %231 is then #1: unquoted too often
        assert client.send("other", "GET", path, Authorization=None)[2] == b"\x00\r\n--X\xff"
        assert not server.records.violations, server.records.violations


# Each of these gives [(what the reason of the violation holds, what provokes it)].


def careless_calls(client, task):
    call, item = client.call, {"section": "s", "name": "n", "type": "int", "value": 1}
    return [
        ("Unable to find endpoint", lambda: call("tasks.creat", {"name": "abc"})),
        ("Invalid request path", lambda: call("", path="/tasks/create")),
        ("no version in the path", lambda: call("tasks.get_all", path="/tasks.get_all")),
        ("API version 2.31", lambda: call("tasks.get_all", path="/v2.31/tasks.get_all")),
        ("PUT tasks.get_all", lambda: call("tasks.get_all", method="PUT")),
        ("GET with a body", lambda: call("tasks.get_all", {"name": "x"}, method="GET")),
        ("unknown property nmae", lambda: call("tasks.get_all", {"nmae": "x"})),
        ("unknown property script.binry", lambda: call("tasks.edit", {"task": task, "script": {"binry": "x"}})),
        ("unknown property method", lambda: call("tasks.get_all", {"method": "get"})),
        ("'task' is a required property", lambda: call("tasks.edit", {"comment": "x"})),
        ("is not of type 'string'", lambda: call("tasks.edit", {"task": task, "comment": 1})),
        ("hyperparams.s.n.value", lambda: call("tasks.edit", {"task": task, "hyperparams": {"s": {"n": item}}})),
        ("is not one of", lambda: call("tasks.create", {"name": "abc", "type": "trainin"})),
        ("fewer than 3 characters", lambda: call("tasks.create", {"name": " ab ", "type": "training"})),
        ("fewer than 3 characters", lambda: call("models.create", {"name": "ab", "uri": "file:///x"})),
        ("Invalid project name", lambda: call("projects.create", {"name": "A//B", "description": ""})),
        ("Invalid regular expression", lambda: call("tasks.get_all", {"name": "("})),
        ("key, type and value", lambda: call("models.create", {"name": "abc", "uri": "x", "metadata": [{"key": "k"}]})),
        ("bad JSON", lambda: call("tasks.get_all", raw=b'{"name":')),
        ("no JSON object", lambda: call("tasks.get_all", raw=b"[]")),
        ("duplicate JSON key 'name'", lambda: call("tasks.get_all", raw=b'{"name": "a", "name": "b"}')),
        ("'text/plain', not application/json", lambda: call("tasks.get_all", content_type="text/plain")),
        ("Content-Encoding 'gzip'", lambda: call("tasks.get_all", Content_Encoding="gzip")),
        ("at most 15728640", lambda: call("tasks.get_all", raw=b"{}" + b" " * 15728640)),
        ("key and secret sent to an endpoint", lambda: call("tasks.get_all", Authorization="Basic eDp5")),
    ]


def careless_events(client, task):
    events, lines, event = client.events, "application/json-lines", json.dumps(scalar(task)).encode()
    add = lambda raw: client.call("events.add_batch", raw=raw, content_type=lines)  # noqa: E731
    part = scalar(task)
    del part["value"]
    text = {"type": "log", "task": task, "level": "info", "msg": "m"}
    return [
        ("NaN is not JSON", lambda: add(event.replace(b"0.5", b"NaN"))),
        ("-Infinity is not JSON", lambda: add(event.replace(b"0.5", b"-Infinity"))),
        ("'application/json', not", lambda: events(scalar(task), content_type="application/json")),
        ("charset=utf-8', not", lambda: events(scalar(task), content_type=f"{lines}; charset=utf-8")),
        ("an empty batch", lambda: add(b"")),
        ("blank line", lambda: add(event + b"\n\n" + event)),
        ("bad JSON", lambda: add(event[:-1])),
        ("no JSON object", lambda: add(b"[1]")),
        ("unknown type of event", lambda: events(scalar(task, type="scalar"))),
        ("unknown property step", lambda: events(scalar(task, step=1))),
        ("incomplete training_stats_scalar event: 'value'", lambda: events(part)),
        ("incomplete log event: 'timestamp'", lambda: events(text)),
        ("in seconds", lambda: events(scalar(task, timestamp=MOMENT // 1000))),
        ("iter: '1' is not of type", lambda: events(scalar(task, iter="1"))),
        ("level: 'INFO' is not one of", lambda: events({**text, "timestamp": MOMENT, "level": "INFO"})),
    ]


def careless_transfers(client):
    return [
        ("Basic credentials sent", lambda: client.send("files", "GET", "/x", Authorization="Basic eDp5")),
        ("credentials sent to other", lambda: client.send("other", "GET", "/x")),
        ("credentials sent to web", lambda: client.send("web", "GET", "/x")),
        ("no token for the file host", lambda: client.send("files", "GET", "/x", Authorization=None)),
        ("not to the root", lambda: client.upload("/x", b"", path="/x")),
        ("PUT on the file host", lambda: client.upload("/x", b"", method="PUT")),
        ("no file name", lambda: client.upload("/x", b"", filename=False)),
        ("leaves the file server's folder", lambda: client.upload("/../x", b"")),
        ("not multipart/form-data", lambda: client.upload("/x", b"", Content_Type="text/plain")),
    ]


def check_violations():
    with running() as (server, client):
        task = client.task()
        cases = careless_calls(client, task) + careless_events(client, task) + careless_transfers(client)
        for expected, provoke in cases:
            provoke()
            found = server.records.forget_violations()
            assert len(found) == 1 and expected in found[0].reason, (expected, found)
        return len(cases)


def check_tolerance():
    """What the SDK does wrong is let pass for the SDK alone, and only where it is asked for."""
    for tolerate, client_name, count in ((True, "clearml-2.1.12", 0), (True, "lab-1", 2), (False, "clearml-2.1.12", 2)):
        with running(tolerate_sdk=tolerate) as (server, client):
            client.call("tasks.get_all", {"method": "get"}, method="GET", X_ClearML_Client=client_name)
            assert len(server.records.violations) == count, (client_name, server.records.violations)


# --- the official SDK


def check_record(server, environment, folder):
    """A run that the SDK records, as the server got it and as the SDK reads it back."""
    task = clearml_sdk.call(environment, "record")["id"]
    copies = folder / "copies"
    copies.mkdir()
    seen = clearml_sdk.call(environment, "read", task, copies)
    assert (seen["name"], seen["project"], seen["status"]) == ("toy run", "Stand/in (#1)", "completed"), seen
    assert sorted(seen["tags"]) == ["first", "second"]
    assert seen["parameters"] == {"hparams/lr": "0.001", "hparams/model/depth": "4", "hparams/flag": "True"}, seen
    assert "Ünïcode" in seen["configuration"]["trainer"]
    assert seen["scalars"]["loss"]["train"]["x"] == [0, 1, 2, 3, 4]
    assert seen["scalars"]["loss"]["train"]["y"] == [1 / (i + 1) for i in range(5)]
    assert seen["values"] == {"best accuracy": 0.93} and seen["last_iteration"] == 4, seen
    assert seen["last"]["loss"]["train"]["min"] == 0.2 and seen["last"]["loss"]["train"]["max"] == 1, seen["last"]
    assert any("a line of the console" in text for text in seen["console"]), seen["console"]
    (plot,) = seen["plots"]
    assert (plot["metric"], plot["variant"]) == ("curve", "valid"), plot
    assert json.loads(plot["plot_str"])["data"][0]["y"] == [2, 3]
    assert sorted(seen["models"]) == ["toy best", "toy last"], seen["models"]
    for name, model in seen["models"].items():
        assert pathlib.Path(model["file"]).read_text() == f"weights of {name.removeprefix('toy ')}"
        assert model["framework"] == "PyTorch" and model["uri"].startswith(server.addresses["files"]), model
    return task


def write_session(server, folder, parent):
    """An offline session written by hand, as a zip. Its path and the task it holds."""
    session = "offline-" + "0123456789abcdef" * 2
    weights = folder / "weights.pt"
    weights.write_text("weights by hand")
    report = folder / session / "data" / "By hand" / f"hand run.{session}" / "artifacts" / "rep" / "r.txt"
    report.parent.mkdir(parents=True)
    report.write_text("report")
    task = {
        "id": session, "name": "hand run", "project_name": "By hand", "type": "training", "tags": ["t"],
        "system_tags": [], "comment": "c", "runtime": {}, "parent": parent, "offline_folder": str(folder / session),
        "hyperparams": {"hparams": {"lr": {"section": "hparams", "name": "lr", "value": "0.1", "type": "float"}}},
        "configuration": {"cfg": {"name": "cfg", "value": "a: 1\n", "type": "yaml"}},
        "script": {"binary": "trainer", "entry_point": "trainer", "working_dir": ".", "requirements": {}},
        "execution": {"artifacts": [{"key": "rep", "type": "custom", "mode": "output", "uri": str(report),
                                     "content_size": 6, "timestamp": MOMENT // 1000}]},
        "offline_output_models": [{
            "id": "offline-" + "fedcba9876543210" * 2, "output_uri": server.addresses["files"],
            "init": {"name": "best", "framework": "PyTorch", "label_enumeration": {}, "tags": [], "comment": "c"},
            "weights": {"weights_filename": str(weights), "iteration": 3}}],
    }
    points = [scalar(session, iter=i, value=i / 4, timestamp=MOMENT + i) for i in range(3)]
    logs = [{"type": "log", "task": session, "timestamp": MOMENT, "level": "info", "msg": "said by hand"}]
    with zipfile.ZipFile(folder / f"{session}.zip", "w") as archive:
        archive.writestr("task.json", json.dumps(task))
        archive.writestr("metrics.jsonl", json.dumps(points) + "\n")
        archive.writestr("log.jsonl", json.dumps(logs) + "\n")
        archive.write(report, report.relative_to(folder / session))
    return folder / f"{session}.zip"


def check_import(server, environment, folder, parent):
    task = clearml_sdk.call(environment, "import", write_session(server, folder, parent))["id"]
    row = server.store.tasks[task]
    assert (row["name"], row["status"], row["parent"], row["comment"]) == ("hand run", "completed", parent, "c"), row
    assert row["hyperparams"]["hparams"]["lr"]["value"] == "0.1" and row["configuration"]["cfg"]["value"] == "a: 1\n"
    assert [event["value"] for event in server.store.events(task, "training_stats_scalar")] == [0, 0.25, 0.5]
    assert any("said by hand" in event["msg"] for event in server.store.events(task, "log"))
    (model,) = [model for model in server.store.models.values() if model.get("task") == task]
    stored = server.store.file(urllib.parse.unquote(urllib.parse.urlsplit(model["uri"]).path))
    assert stored.read_text() == "weights by hand", model
    (artifact,) = row["execution"]["artifacts"]
    assert artifact["key"] == "rep" and artifact["uri"].startswith(server.addresses["files"]), artifact


def check_sdk():
    with running(tolerate_sdk=True) as (server, _), tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        environment = clearml_sdk.sandbox(folder / "home", server.environment())
        task = check_record(server, environment, folder)
        check_import(server, environment, folder, task)
        assert not server.records.violations, server.records.violations
        return len(server.records.requests)


def main():
    for check in (check_statuses, check_merging, check_search, check_events, check_files, check_tolerance):
        check()
    kinds = check_violations()
    requests = check_sdk()
    print(f"{kinds} kinds of violations are found; {requests} requests of the official SDK are answered")


main()
