"""What the official SDK does with a server: a process of its own, as it starts threads and takes over standard output.

    clearml_sdk.py record            a run with everything that lab records; prints {"id": ..}
    clearml_sdk.py read ID FOLDER    prints what the SDK sees of a task, models downloaded to FOLDER
    clearml_sdk.py import SESSION    imports an offline session (a zip or its folder); prints {"id": ..}
    clearml_sdk.py retrieve ID NAME  prints where it puts a task's output model of that name; several are taken, too
    clearml_sdk.py models FOLDER     a task with each file of a folder as an output model; prints {"id": ..}

The result is the last line of standard output, as JSON. sandbox() makes the environment that it must be started in.
"""

import json
import os
import pathlib
import subprocess
import sys

PREFIX = "result: "


def sandbox(folder, environment):
    """An environment in which the SDK writes only below the folder, and speaks to the server of `environment` alone."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Its reporting process would be forked amid the requests of other threads, whose answers then get lost at times.
    settings = "sdk.development.report_use_subprocess: false\n"
    (folder / "clearml.conf").write_text(settings, encoding="utf-8")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CLEARML", "TRAINS"))
            and not key.lower().endswith("_proxy")}
    return {**kept, **environment, "HOME": str(folder), "TMPDIR": str(folder),
            "CLEARML_CACHE_DIR": str(folder / "cache"), "CLEARML_CONFIG_FILE": str(folder / "clearml.conf"),
            "CLEARML_DISABLE_VAULT_SUPPORT": "1", "PYTHONDONTWRITEBYTECODE": "1",
            "GIT_OPTIONAL_LOCKS": "0"}  # it looks at the repository that it is started from


def call(environment, *words, seconds=280):
    """Runs this file as a program, in an environment that sandbox() made; its result. Raises with what it printed."""
    done = subprocess.run([sys.executable, __file__, *map(str, words)], env=environment, capture_output=True, text=True,
                          timeout=seconds, cwd=environment["HOME"], check=False)
    results = [line for line in done.stdout.splitlines() if line.startswith(PREFIX)]
    if done.returncode != 0 or not results:
        raise AssertionError(f"clearml_sdk.py {words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return json.loads(results[-1].removeprefix(PREFIX))


def stay_here():
    """Refuses, for this process, every connection and name look-up but of this machine: the SDK asks for updates."""
    def refuse(event, arguments):
        if event == "socket.connect":
            address = arguments[1]
            host = address[0] if isinstance(address, tuple) else "127.0.0.1"  # else a path: a Unix socket
        elif event == "socket.getaddrinfo":
            host = arguments[0] or "127.0.0.1"
        else:
            return
        if isinstance(host, bytes):
            host = host.decode()
        if not host.startswith("127.") and host not in ("localhost", "::1"):
            raise PermissionError(f"{event} {host}: only this machine")

    sys.addaudithook(refuse)


def record():
    from clearml import OutputModel, Task  # pylint: disable=import-outside-toplevel
    task = Task.init(project_name="Stand/in (#1)", task_name="toy run", tags=["first", "second"], output_uri=True,
                     reuse_last_task_id=False, auto_connect_frameworks=False, auto_resource_monitoring=False)
    task.connect({"lr": 0.001, "model": {"depth": 4}, "flag": True}, name="hparams")
    task.connect_configuration({"text": "Ünïcode"}, name="trainer")
    logger = task.get_logger()
    for i in range(5):
        logger.report_scalar("loss", "train", 1 / (i + 1), iteration=i)
    logger.report_single_value("best accuracy", 0.93)
    logger.report_text("a line of the console")
    figure = {"data": [{"type": "scatter", "x": [0, 1], "y": [2, 3]}], "layout": {}}
    logger.report_plotly("curve", "valid", figure, iteration=4)
    for name in ("last", "best"):
        weights = pathlib.Path(f"{name}.pt")
        weights.write_text(f"weights of {name}", encoding="utf-8")
        OutputModel(task=task, name=f"toy {name}", framework="PyTorch").update_weights(str(weights), iteration=4)
    task.flush(wait_for_uploads=True)
    task.close()
    return {"id": task.id}


def read(task_id, folder):
    from clearml import Task  # pylint: disable=import-outside-toplevel
    task = Task.get_task(task_id)
    models = {}
    for model in task.models["output"]:
        copy = model.get_local_copy(raise_on_error=True)
        kept = pathlib.Path(folder) / pathlib.Path(copy).name
        kept.write_bytes(pathlib.Path(copy).read_bytes())
        models[model.name] = {"file": str(kept), "uri": model.url, "framework": model.framework, "id": model.id}
    return {
        "id": task.id, "name": task.name, "project": task.get_project_name(), "status": task.get_status(),
        "tags": task.get_tags(), "comment": task.comment, "parent": task.parent, "models": models,
        "parameters": task.get_parameters(), "configuration": task.get_configuration_objects(),
        "scalars": task.get_reported_scalars(), "values": task.get_reported_single_values(),
        "console": task.get_reported_console_output(number_of_reports=1000),
        "plots": task.get_reported_plots(max_iterations=1000), "last": task.get_last_scalar_metrics(),
        "artifacts": {name: artifact.get() for name, artifact in task.artifacts.items()},
        "last_iteration": task.get_last_iteration(),
    }


def import_session(session):
    from clearml import Task  # pylint: disable=import-outside-toplevel
    return {"id": Task.import_offline_session(session)}


def retrieve(task_id, *names):
    from clearml import Model, Task  # pylint: disable=import-outside-toplevel
    task = Task.get_task(task_id=task_id)
    return {name: Model(task.output_models_id[name]).get_local_copy() for name in names}


def models(folder):
    from clearml import OutputModel, Task  # pylint: disable=import-outside-toplevel
    task = Task.init(project_name="test", task_name="mnist-earlier_v0", output_uri=True, reuse_last_task_id=False,
                     auto_connect_frameworks=False, auto_resource_monitoring=False)
    for file in sorted(pathlib.Path(folder).iterdir()):
        OutputModel(task=task, name=task.name, framework="PyTorch").update_weights(
            str(file), target_filename=file.name, iteration=8, auto_delete_file=False)
    task.flush(wait_for_uploads=True)
    task.close()
    return {"id": task.id}


if __name__ == "__main__":
    stay_here()
    commands = {"record": record, "read": read, "import": import_session, "retrieve": retrieve, "models": models}
    result = commands[sys.argv[1]](*sys.argv[2:])
    print("\n" + PREFIX + json.dumps(result, ensure_ascii=False, default=str), flush=True)
