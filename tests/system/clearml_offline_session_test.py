"""The official SDK imports the offline sessions that lab writes, and finds in them what the runs said.

    clearml_offline_session_test.py BUILD_FOLDER    imports what spool_tool writes into a stand-in for a server
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import clearml_sdk
from clearml_requests import running

PROJECT = "Offline/runs (#1) 100%"
NAME = "odd #1 100% „name“_v1"
TAGS = ["first", "zweites „Tag“"]


def write_sessions(build, folder, files_host):
    tool = next(path for path in build.rglob("spool_tool") if path.is_file())
    done = subprocess.run([tool, folder, files_host], check=True, capture_output=True, text=True, encoding="utf-8")
    assert "1 of the 5 records" in done.stderr, done.stderr  # of the torn one
    return [pathlib.Path(line) for line in done.stdout.splitlines()]


def imported(environment, folder, session):
    """What the SDK sees of a task that it has made from a session."""
    copies = folder / f"copies of {session.name}"
    copies.mkdir()
    return clearml_sdk.call(environment, "read", clearml_sdk.call(environment, "import", session)["id"], copies)


def check_task(server, seen):
    assert (seen["name"], seen["project"], seen["status"]) == (NAME, PROJECT, "completed"), seen
    assert sorted(seen["tags"]) == sorted([*TAGS, "failed"]), seen["tags"]
    assert "failed: exit 65: data/„x“.h5 is damaged\nparent task: " + "0" * 32 in seen["comment"], seen["comment"]
    assert not seen["parent"]
    row = server.store.tasks[seen["id"]]
    parameters = {name: (item["value"], item["type"]) for name, item in row["hyperparams"]["hparams"].items()}
    assert parameters == {
        "config/learning_rate": ("1e-300", "float"), "config/batch_size": ("128", "int"),
        "config/shuffle": ("True", "bool"), "config/note": ("Ünïcode \"q\" \\ #%", "str"),
        "config/milestones": ("[5, 8]", "list"), "trainer.init/seed": ("9007199254740993", "int")}, parameters
    assert seen["parameters"] == {f"hparams/{name}": value for name, (value, _) in parameters.items()}
    configuration = "# Ünïcode „q“ \\ %20\n[config]\nnote = \"\"\"a\n\tb\"\"\"\n"
    assert seen["configuration"] == {"config": configuration}, seen["configuration"]
    assert row["configuration"]["config"]["type"] == "toml"
    script = {"binary": "lab_train", "entry_point": "lab_train configs/odd.toml", "branch": "main",
              "repository": "git@host:lab.git", "version_num": "c0ffee", "diff": "+ä\n"}
    assert {key: row["script"][key] for key in script} == script, row["script"]
    assert row["system_tags"] == ["development"], row["system_tags"]


def check_events(server, seen):
    found = {}
    for event in server.store.events(seen["id"], "training_stats_scalar"):
        found.setdefault((event["metric"], event["variant"]), []).append((event["iter"], event["value"]))
    assert found.pop(("loss", "train")) == [(step, 1 / (step + 1)) for step in range(2400)]
    assert found == {("odd #1", "100% „ä“"): [(1, 1e-300)], ("a_b", "c"): [(2**40, 9007199254740992)],
                     ("epoch", "epoch"): [(7, 3)], (":monitor:machine", "cpu_usage"): [(7, 12.5)]}, found
    batches = [request.json for request in server.records.of("events.add_batch")]
    sent = [event for batch in batches for event in batch if event["type"] != "log"]
    assert len(sent) == 2405, f"{len(sent)} points and plots were sent"  # each once
    (plot,) = seen["plots"]
    assert (plot["metric"], plot["variant"], plot["iter"]) == ("confusion #%", "validate", 7), plot
    figure = json.loads(plot["plot_str"])
    assert (figure["data"][0]["z"], figure["layout"]) == ([[1, 2], [3, 4]], {"title": "ä"}), figure


def check_console(server, seen):
    logs = sorted(server.store.events(seen["id"], "log"), key=lambda event: event["timestamp"])
    lines = [(event["level"], line) for event in logs for line in event["msg"].split("\n")]
    odd = {77: " „ä“\t\"%\""}
    expected = [("warning" if i >= 50 and i % 10 == 0 else "info", f"line {i}{odd.get(i, '')}") for i in range(100)]
    assert [line for line in lines if line[1].startswith("line ")] == expected, lines
    assert len({event["timestamp"] for event in logs}) == len(logs)


def check_models(server, folder, seen):
    assert sorted(seen["models"]) == [f"{NAME} - {slot}" for slot in ("best", "last")], seen["models"]
    slots = {model["name"]: model["model"] for model in server.store.tasks[seen["id"]]["models"]["output"]}
    for slot, iteration in (("best", 77), ("last", 2399)):
        model = seen["models"][f"{NAME} - {slot}"]
        assert slots[slot] == model["id"], (slots, model)
        assert model["uri"].startswith(server.addresses["files"]) and model["framework"] == "PyTorch", model
        weights = (folder / "full" / "checkpoints" / f"{slot}.safetensors").read_bytes()
        assert pathlib.Path(model["file"]).read_bytes() == weights, model
        row = server.store.models[model["id"]]
        assert row["design"] == {"design": "lr = 0.1\n"} and row["iteration"] == iteration, row


def check_bare(seen, name, points, console):
    assert (seen["name"], seen["project"], seen["status"]) == (name, PROJECT, "completed"), seen
    assert sorted(seen["tags"]) == sorted([*TAGS, "unfinished"]) and not seen["models"] and not seen["plots"], seen
    assert {title: {series: (line["x"], line["y"]) for series, line in lines.items()}
            for title, lines in seen["scalars"].items()} == points, seen["scalars"]
    assert [text.strip() for text in seen["console"]] == console, seen["console"]


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    with running(tolerate_sdk=True) as (server, _), tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        environment = clearml_sdk.sandbox(folder / "home", server.environment())
        full, empty, torn = write_sessions(build, folder, server.addresses["files"])
        seen = imported(environment, folder, full)
        check_task(server, seen)
        check_events(server, seen)
        check_console(server, seen)
        check_models(server, folder, seen)
        check_bare(imported(environment, folder, empty), "empty_v1", {}, [])
        check_bare(imported(environment, folder, torn), "torn_v1", {"loss": {"loss": ([0, 1], [0.5, 0.25])}},
                   ["the last word"])
        assert not server.records.violations, server.records.violations
    print("3 sessions imported by the official SDK")


main()
