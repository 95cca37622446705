"""lab_train beside a stand-in for a ClearML server that is well: each run is one task, with all that its folder holds.

    clearml_run_test.py BUILD_FOLDER [--runs N]    N: how often each part is tried (default 1)
"""

import json
import pathlib
import signal
import sys
import tomllib
import urllib.parse

import clearml_sdk
from clearml_runs import (LONG, Place, beside_a_server, check_complete, console_of, copy_digits, json_of, log_of,
                          points_of, rows_of, sent_points, task_of, wait_for_checkpoint, wait_until)
from safetensors.numpy import load_file

PROJECT = "Deep/er (#1)"
SCRIPT = {"repository": "git@theirs:a.git", "version_num": "1234", "entry_point": "theirs.py", "diff": "their diff",
          "requirements": {"pip": "theirs"}}


def slots_of(server, task):
    """The output models of a task by the names of their slots."""
    with server.store.lock:
        return {slot["name"]: dict(server.store.models[slot["model"]]) for slot in task["models"]["output"]}


def seen_by_sdk(place, server, task):
    home = place.folder / f"sdk-{task['id']}"
    environment = clearml_sdk.sandbox(home, server.environment())
    return clearml_sdk.call(environment, "read", task["id"], home)


def same_weights(a, b):
    a, b = load_file(a), load_file(b)
    return list(a) == list(b) and all((a[name] == b[name]).all() for name in a)


def flat(table, above=()):
    """Dotted keys with / and their values."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, (*above, key))
        else:
            yield "/".join((*above, key)), value


def check_parameters(folder, task, seen):
    kinds = {bool: "bool", int: "int", float: "float", str: "str", list: "list"}
    configured = dict(flat(tomllib.loads((folder / "config.toml").read_text())))
    shown = task["hyperparams"]["hparams"]
    assert set(shown) == set(configured), set(shown) ^ set(configured)
    for name, value in configured.items():
        item = shown[name]
        assert item["section"] == "hparams" and item["name"] == name, item
        assert item["type"].split("/")[0] == kinds[type(value)], (name, value, item)
        text = seen["parameters"][f"hparams/{name}"]
        if isinstance(value, (bool, str)):
            assert text == str(value), (name, value, text)
        else:
            assert json.loads(text) == value, (name, value, text)


def check_models(server, folder, task, seen):
    slots = slots_of(server, task)
    assert set(slots) == {"last", "best"}, slots
    by_id = {model["id"]: model for model in seen["models"].values()}
    for name, row in slots.items():
        kept = folder / "checkpoints" / f"{name}.safetensors"
        model = by_id[row["id"]]
        assert model["uri"].startswith(server.addresses["files"]), model
        assert pathlib.Path(model["file"]).read_bytes() == kept.read_bytes() and same_weights(model["file"], kept)
        assert row["framework"] == "PyTorch" and row["task"] == task["id"] and not row["ready"], row
    text = slots["last"]["design"]["design"]
    design, values = json.loads(text), {f"{title}/{series}": value for (title, series, _), value in rows_of(folder)}
    assert {"time", "epoch"} <= set(design), text
    last = {name: value for name, value in (design.get("metrics") or design).items() if name in values}
    assert last and all(values[name] == value for name, value in last.items()), (text, values)
    assert slots["last"]["iteration"] in (json_of(folder)["steps"], json_of(folder)["steps"] - 1), slots["last"]


def check_figures(folder, seen):
    """A confusion matrix of each epoch's validation, that says what metrics.csv says."""
    accuracies = [value for (title, series, _), value in rows_of(folder) if (title, series) == ("accuracy", "validate")]
    plots = sorted(seen["plots"], key=lambda plot: plot["iter"])
    assert {(plot["metric"], plot["variant"]) for plot in plots} == {("confusion (validate)", "validate")}, plots
    assert [plot["iter"] for plot in plots] == list(range(len(accuracies) - 1)), plots  # not of the first validation
    for plot, accuracy in zip(plots, accuracies[1:]):
        rows = json.loads(plot["plot_str"])["data"][0]["z"]
        assert len(rows) == 10 and abs(sum(rows[i][i] for i in range(10)) / sum(map(sum, rows)) - accuracy) < 1e-9, plot


def a_run_is_a_task(place, server, _client):
    done = place.train(ranks=4, values={"task.project_name": PROJECT, "task.tags": '["one", "two"]'})
    assert len(server.store.tasks) == 1, [task["name"] for task in server.store.tasks.values()]
    folder = place.run()
    task = check_complete(server, folder)
    assert task["name"] == "mnist-mnist_v0" and folder.name == f"mnist-mnist_v0-{task['id']}", (task["name"], folder)
    with server.store.lock:
        assert server.store.projects[task["project"]]["name"] == PROJECT
    assert (task["type"], task["system_tags"]) == ("training", ["development"]), task
    keys = [key for key, _ in rows_of(folder)]
    more = {key for key, count in sent_points(server, task["id"]).items() if count > keys.count(key)}
    assert not more, f"sent more than once: {more}"
    seen = seen_by_sdk(place, server, task)
    assert (seen["name"], seen["project"], seen["status"]) == ("mnist-mnist_v0", PROJECT, "completed"), seen
    assert {"one", "two"} <= set(seen["tags"]), seen["tags"]
    assert seen["configuration"]["config"] == (folder / "config.toml").read_text(), seen["configuration"]
    check_parameters(folder, task, seen)
    check_models(server, folder, task, seen)
    check_figures(folder, seen)
    for title, series, _ in points_of(server, task["id"]):
        rows = sorted(dict(rows_of(folder)).items())
        points = [(step, value) for (*name, step), value in rows if name == [title, series]]
        curve = seen["scalars"][title][series]
        assert list(zip(curve["x"], curve["y"])) == points, (title, series, curve, points)
    page = f"/projects/{task['project']}/tasks/{task['id']}"
    assert page in done.said and any(page in line for line in log_of(folder)), done.said
    assert not (folder / "clearml_offline").exists()
    print(f"4 ranks, one task: {len(keys)} points, {len(log_of(folder))} lines, both models as the SDK reads them",
          flush=True)


def versions_count_up(place, server, _client):
    values = {"trainer.init.max_steps": 2, "task.project_name": "versions"}
    place.train(values=values)
    with place.start(values=values) as first, place.start(values=values) as second:
        assert [first.wait().code, second.wait().code] == [0, 0]
    names = sorted(task_of(server, folder)["name"] for folder in place.runs())
    assert names == ["mnist-mnist_v0", "mnist-mnist_v1", "mnist-mnist_v2"], names
    assert not server.records.violations, server.records.violations
    print("versions count up, also of two that start at once", flush=True)


def projects(place, server, client):
    """Without a project it is "unnamed", where archived tasks count; a dev run is recorded as well, in "test"."""
    bare, short = place.folder / "bare.toml", {"trainer.init.max_steps": 2}
    bare.write_text('experiment = "mnist"\n', encoding="utf-8")
    place.train(config=bare, values=short)
    first = task_of(server, place.run())
    client.data("tasks.edit", task=first["id"], force=True, system_tags=["development", "archived"])
    place.train(config=bare, values=short)
    place.train("--dev-run", "2", values={"task.project_name": "mine", "trainer.init.max_epochs": 1})
    with server.store.lock:
        found = sorted((task["name"], server.store.projects[task["project"]]["name"]) for task in server.store.tasks.values())
    assert found == [("dev_mnist-mnist_v0", "test"), ("mnist-bare_v0", "unnamed"), ("mnist-bare_v1", "unnamed")], found
    print('without a project: "unnamed", archived tasks count; a dev run is recorded in "test"', flush=True)


def a_failed_run(place, server, _client):
    copy_digits(place.folder / "bad.h5", bad_sample=300)  # which comes to rank 0
    done = place.train(values={"config.data": place.folder / "bad.h5"}, code=65)
    task = check_complete(server, place.run(), "failed")
    error = json_of(place.run())["error"]
    assert "label 200" in error and error in done.said, (error, done.said)
    assert error in task["status_message"], task
    print("a run that fails is failed, with its error", flush=True)


def another_rank_fails(place, server, _client):
    copy_digits(place.folder / "bad.h5", bad_sample=310)  # which comes to rank 1
    done = place.train(values={"config.data": place.folder / "bad.h5"}, code=65)
    assert "[rank 1 of 2] error: " in done.said, done.said
    task = task_of(server, place.run())
    assert task["status"] == "failed" and "label 200" in task["status_message"], task
    print("an error of another rank: failed, too, with that error", flush=True)


def stopped_and_resumed(place, server, _client):
    with place.start(values=LONG) as started:
        folder = wait_for_checkpoint(place)
        started.signal(signal.SIGUSR1)
        assert started.wait().code == 75
    before = check_complete(server, folder, "stopped")
    steps = json_of(folder)["steps"] + 2
    place.train(f"--resume={folder}", values={**LONG, "trainer.init.max_steps": steps})
    after = check_complete(server, place.run())
    assert after["id"] == before["id"] and len(server.store.tasks) == 1 and json_of(folder)["steps"] == steps
    print("a run that is stopped is stopped; resumed it goes on in the same task, to completed", flush=True)


def aborted(place, server, client):
    with place.start(values=LONG) as started:
        folder = wait_for_checkpoint(place)
        task = wait_until(lambda: json_of(folder)["task_id"], "the task")
        client.data("tasks.stop", task=task)
        done = started.wait()
    assert done.code == 75 and json_of(folder)["status"] in ("stopped", "aborted"), (done, json_of(folder))
    assert task_of(server, folder)["status"] == "stopped"
    assert json_of(folder)["steps"] > 0 and list(folder.glob("checkpoints/last.safetensors"))
    print("aborted in the web page: saved, stopped, 75", flush=True)


def adopted(place, server, client):
    """As an agent starts it: with a task that someone has cloned and edited."""
    place.train(values={"trainer.init.max_steps": 2})
    task = task_of(server, place.run())

    def clone(name, **edited):
        parameters = json.loads(json.dumps(task["hyperparams"]))
        for key, value in edited.items():
            parameters["hparams"][f"config/{key}"]["value"] = value
        parameters["hparams"]["task/tags"]["value"] = "['ours']"  # as Python writes it
        parameters["Args"] = {"who": {"section": "Args", "name": "who", "value": "theirs", "type": "str"}}
        configuration = {**task["configuration"], "other": {"name": "other", "value": "theirs", "type": "yaml"}}
        return client.task(name, project=client.data("projects.create", name=name, description="")["id"],
                           hyperparams=parameters, configuration=configuration, script=SCRIPT, tags=["theirs"])

    def check_kept(row):
        assert row["script"] == SCRIPT and row["tags"] == ["theirs", "ours"], row
        assert row["hyperparams"]["Args"]["who"]["value"] == "theirs", row["hyperparams"]
        assert row["configuration"]["other"]["value"] == "theirs", row["configuration"]
        assert all("/a clone of it/a clone of it." in urllib.parse.unquote(model["uri"]) and
                   model["project"] == row["project"] for model in slots_of(server, row).values()), row["models"]

    good = clone("a clone of it", learning_rate="0.125")
    as_agent = {"CLEARML_TASK_ID": good}
    place.train(values={"trainer.init.max_steps": 2}, environment=as_agent)
    folder = next(folder for folder in place.runs() if json_of(folder)["task_id"] == good)
    assert json_of(folder)["name"] == "a clone of it", json_of(folder)
    assert tomllib.loads((folder / "config.toml").read_text())["config"]["learning_rate"] == 0.125
    row = check_complete(server, folder, console=False)  # the agent sends it
    check_kept(row)
    assert row["configuration"]["config"]["value"] == (folder / "config.toml").read_text(), row["configuration"]
    assert not console_of(server, good)
    more = {"section": "hparams", "name": "trainer/init/max_steps", "value": "4", "type": "int"}
    client.data("tasks.edit_hyper_params", task=good, force=True, hyperparams=[more])
    place.train(f"--resume={folder}", environment=as_agent)
    check_kept(check_complete(server, folder, console=False))
    for wrong in ({"learning_rate": "fast"}, {"learning_rate": "-1"}, {"patience": "1.5"}):
        key = next(iter(wrong))
        bad = clone(f"a wrong {wrong[key]}", **wrong)
        done = place.train(environment={"CLEARML_TASK_ID": bad}, code=78)
        assert key in done.said and wrong[key] in done.said, done.said
        with server.store.lock:
            row = dict(server.store.row("tasks", bad))
        assert row["status"] == "failed" and key in row["status_message"], row
    done = place.train(environment={"CLEARML_TASK_ID": "no task \udcff"}, code=78)
    assert "CLEARML_TASK_ID" in done.said, done.said
    assert len(server.store.tasks) == 5, "adopting has made a task"
    print("CLEARML_TASK_ID: adopted, with its name and edited values; wrong ones are refused by name: 78", flush=True)


def models_in_a_folder(place, server, _client):
    for form in (str(place.folder / "models"), (place.folder / "others").as_uri()):
        before = set(place.runs())
        place.train(values={"task.output_uri": form, "trainer.init.max_steps": 2})
        (folder,) = set(place.runs()) - before
        for name, row in slots_of(server, task_of(server, folder)).items():
            address = urllib.parse.urlsplit(row["uri"])
            copy = pathlib.Path(urllib.parse.unquote(address.path))
            assert address.scheme == "file", row["uri"]
            assert pathlib.Path(urllib.parse.urlsplit(form).path) in copy.parents, row["uri"]
            assert same_weights(copy, folder / "checkpoints" / f"{name}.safetensors")
    assert not server.records.of("files.upload") and not server.records.violations
    print("task.output_uri: a folder, as a path and as file://", flush=True)


def models_that_stay(place, server, _client):
    place.train(values={"task.output_uri": "false", "trainer.init.max_steps": 2})
    for name, row in slots_of(server, task_of(server, place.run())).items():
        assert row["uri"] == (place.run() / "checkpoints" / f"{name}.safetensors").as_uri(), row["uri"]
    assert not server.records.of("files.upload") and not server.records.violations
    print("task.output_uri = false: models are named, not sent", flush=True)


def refused(place, server, _client):
    for uri in ("s3://bucket/x", "gs://bucket/x", "azure://account/x"):
        done = place.train(values={"task.output_uri": uri}, code=78)
        assert uri in done.said, done.said
    done = place.train(values={"task.auto_connect_framework": "true"}, code=78)
    assert "auto_connect_framework" in done.said, done.said
    for name in ("ab", "   ", " / /"):
        done = place.train(values={"task.project_name": json.dumps(name)}, code=78)
        assert "project_name" in done.said and "at least 3 characters" in done.said, done.said
    place.train(values={"config.data": "gone.h5"}, code=66)
    place.train(values={"config.model": "toy", "config.n_features": 4, "config.data": place.folder / "none"}, code=66)
    assert not place.runs() and not server.store.tasks
    print("other places for models, projects that no server takes, what Task.init does not know: 78", flush=True)


def required(place, server, _client):
    for host in ("api", "files"):
        server.close_port(host)
    done = place.train(values={"task.required": "true"}, code=69)
    assert server.addresses["api"] in done.said and not place.runs(), done.said
    done = place.train(values={"task.required": "true"}, code=69, environment={
        name: None for name in place.environment if name.startswith("CLEARML")})
    assert "task.required" in done.said and not place.runs(), done.said
    print("task.required without a server: 69", flush=True)


def nothing_configured(place, server, _client):
    """Every newcomer."""
    place = Place(place.folder / "newcomer")
    place.train(values={"trainer.init.max_steps": 2})
    folder = place.run()
    assert folder.name == "mnist-mnist_offline" and json_of(folder)["task_id"] == "", folder
    assert sum("ClearML" in line and "configured" in line for line in log_of(folder)) == 1, log_of(folder)
    assert not server.records.requests
    print("nothing configured: offline, with one line that says so", flush=True)


PARTS = (a_run_is_a_task, versions_count_up, projects, a_failed_run, another_rank_fails, stopped_and_resumed, aborted, adopted,
         models_in_a_folder, models_that_stay, refused, required, nothing_configured)


def main():
    runs = int(sys.argv[sys.argv.index("--runs") + 1]) if "--runs" in sys.argv else 1
    for _ in range(runs):
        for part in PARTS:
            with beside_a_server() as (place, server, client):
                part(place, server, client)


if __name__ == "__main__":
    main()
