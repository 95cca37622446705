"""The endpoints of projects and tasks."""

from . import query
from .store import checked_name, now
from .wire import ApiError

TYPES = {"training", "testing", "inference", "data_processing", "application", "monitor", "controller", "optimizer",
         "service", "qc", "custom"}
NEXT = {
    "created": {"queued", "in_progress"},
    "queued": {"in_progress", "created", "stopped"},
    "in_progress": {"stopped", "failed", "created", "completed"},
    "stopped": {"closed", "created", "failed", "queued", "in_progress", "published", "completed"},
    "closed": {"created", "failed", "stopped", "published"},
    "completed": {"published", "in_progress", "created"},
    "failed": {"created", "stopped", "published", "queued"},
    "published": set(),
}
MERGED = ("execution", "script", "output", "models")  # one level deep; everything else is replaced whole
EDITED = ("name", "tags", "system_tags", "comment", "parent", "project", "type", "hyperparams", "configuration",
          "container", "runtime", "input", *MERGED)
RUNNING = ("created", "in_progress")


def projects_get_all(store, body, _worker):
    return {"projects": query.find(store.projects.values(), body)}


def projects_get_by_id(store, body, _worker):
    return {"project": store.row("projects", body["project"])}


def projects_create(store, body, _worker):
    body["name"] = checked_name("project", body["name"])
    return {"id": store.make_project(**body)["id"]}


def projects_update(store, body, _worker):
    row = store.row("projects", body["project"])
    row.update({key: value for key, value in body.items() if key != "project"}, last_update=now())
    return {"updated": 1, "fields": {}}


def _check_values(store, body):
    """What schemas cannot see."""
    if "name" in body:
        body["name"] = checked_name("task", body["name"])
    if body.get("parent"):
        store.row("tasks", body["parent"])
    if body.get("project"):
        store.row("projects", body["project"])
    if body.get("type", "training") not in TYPES:
        known = ", ".join(sorted(TYPES))
        raise ApiError(400, 12, f"unknown task type {body['type']!r}; there are {known}", careless=True)


def create(store, body, _worker):
    _check_values(store, body)
    destination = body.pop("output_dest", None)
    row = {
        "status": "created", "status_reason": "", "status_message": "", "status_changed": now(), "last_change": now(),
        "comment": "", "last_iteration": 0, "last_metrics": {}, "hyperparams": {}, "configuration": {}, "runtime": {},
        "container": {}, "script": {}, "output": {"destination": destination} if destination else {}, **body,
    }
    row["execution"] = {"artifacts": [], **(body.get("execution") or {})}
    row["models"] = {"input": [], "output": [], **(body.get("models") or {})}
    return {"id": store.insert("tasks", **row)["id"]}


def _touch(row, worker):
    row["last_update"] = row["last_change"] = now()
    if worker:
        row.update(last_worker=worker, last_worker_report=now())


def _editable(store, body, statuses=("created",)):
    """The task's row, when its status (or force) lets it be edited."""
    row = store.row("tasks", body["task"])
    if row["status"] not in statuses and not body.get("force"):
        raise ApiError(400, 110, f"Invalid task status: expected={'|'.join(statuses)}, status={row['status']}")
    return row


def edit(store, body, worker):
    row = _editable(store, body)
    _check_values(store, body)
    if "output_dest" in body:
        body["output"] = {"destination": body["output_dest"]}
    for key in EDITED:
        if key in MERGED and key in body:
            row[key] = {**row[key], **body[key]}
        elif key in body:
            row[key] = body[key]
    _touch(row, worker)
    return {"updated": 1, "fields": {key: row[key] for key in EDITED if key in body}}


def update(store, body, worker):
    """tasks.update: the few fields that may change at any time."""
    return edit(store, {**body, "force": True}, worker)


def _transition(row, body, status, worker):
    before = row["status"]
    if status != before and status not in NEXT[before] and not body.get("force"):
        raise ApiError(400, 110, f"Invalid task status: expected=transition to {status}, status={before}")
    if status != before:
        row["status_changed"] = now()
    row.update(status=status, **{key: body.get(key, "") for key in ("status_reason", "status_message")})
    _touch(row, worker)


def _mover(status, time_field=None):
    """The endpoint that moves a task to a status."""
    def move(store, body, worker):
        row = store.row("tasks", body["task"])
        _transition(row, body, status, worker)
        if time_field:
            row[time_field] = now()
        answer = {"updated": 1, "fields": {"status": status}}
        if status == "in_progress":
            answer["started"] = 1
        if body.get("publish"):
            _transition(row, {**body, "force": True}, "published", worker)
            answer["published"] = 1
        return answer
    return move


def reset(store, body, worker):
    row = store.row("tasks", body["task"])
    if row["status"] == "published" and not body.get("force"):
        raise ApiError(400, 110, "Invalid task status: a published task is not reset")
    store.forget_events(row["id"])
    row["models"]["output"], row["execution"]["artifacts"], row["last_metrics"] = [], [], {}
    row.update(last_iteration=0)
    _transition(row, {"force": True}, "created", worker)
    return {"updated": 1, "fields": {"status": "created"}, "deleted_models": 0}


def delete(store, body, _worker):
    row = store.row("tasks", body["task"])
    store.forget_events(row["id"])
    del store.tasks[row["id"]]
    return {"deleted": 1, "deleted_models": 0}


def ping(store, body, worker):
    _touch(store.row("tasks", body["task"]), worker)
    return {}


def get_by_id(store, body, _worker):
    return {"task": store.row("tasks", body["task"])}


def get_all(store, body, _worker):
    return {"tasks": query.find(store.tasks.values(), body)}


def edit_hyper_params(store, body, worker):
    only_properties = all(item.get("section") == "properties" for item in body["hyperparams"])
    row = store.row("tasks", body["task"]) if only_properties else _editable(store, body)
    replace, sections = body.get("replace_hyperparams", "none"), {item["section"] for item in body["hyperparams"]}
    params = {} if replace == "all" else dict(row["hyperparams"])
    for section in sections:
        params[section] = {} if replace == "section" else dict(params.get(section, {}))
    for item in body["hyperparams"]:
        params[item["section"]][item["name"]] = item
    row["hyperparams"] = params
    _touch(row, worker)
    return {"updated": 1}


def delete_hyper_params(store, body, worker):
    row = _editable(store, body)
    for item in body["hyperparams"]:
        if item.get("name"):
            row["hyperparams"].get(item["section"], {}).pop(item["name"], None)
        else:
            row["hyperparams"].pop(item["section"], None)
    _touch(row, worker)
    return {"deleted": 1}


def get_hyper_params(store, body, _worker):
    rows = [store.row("tasks", task) for task in body["tasks"]]
    return {"params": [{"task": row["id"], "hyperparams": [item for section in row["hyperparams"].values()
                                                           for item in section.values()]} for row in rows]}


def edit_configuration(store, body, worker):
    row = _editable(store, body)
    kept = {} if body.get("replace_configuration") else row["configuration"]
    row["configuration"] = {**kept, **{item["name"]: item for item in body["configuration"]}}
    _touch(row, worker)
    return {"updated": 1}


def get_configurations(store, body, _worker):
    rows, names = [store.row("tasks", task) for task in body["tasks"]], body.get("names")
    return {"configurations": [{"task": row["id"], "configuration": [
        item for name, item in row["configuration"].items() if not names or name in names]} for row in rows]}


def set_requirements(store, body, worker):
    row = _editable(store, body, RUNNING)
    row["script"] = {**row["script"], "requirements": body["requirements"]}
    _touch(row, worker)
    return {"updated": 1, "fields": {}}


def add_or_update_model(store, body, worker):
    row = _editable(store, body, RUNNING)
    store.row("models", body["model"])
    slots = row["models"][body["type"]]
    slot = {"name": checked_name("model", body["name"]), "model": body["model"], "updated": now()}
    row["models"][body["type"]] = [old for old in slots if old["name"] != slot["name"]] + [slot]
    row["last_iteration"] = max(row["last_iteration"], body.get("iteration") or 0)
    _touch(row, worker)
    return {"updated": 1}


def add_or_update_artifacts(store, body, worker):
    row = _editable(store, body, RUNNING)
    added = {(item["key"], item.get("mode", "output")): item for item in body["artifacts"]}
    kept = [old for old in row["execution"]["artifacts"] if (old["key"], old.get("mode", "output")) not in added]
    row["execution"]["artifacts"] = kept + list(added.values())
    _touch(row, worker)
    return {"updated": 1}


ENDPOINTS = {
    "projects.get_all": projects_get_all, "projects.get_by_id": projects_get_by_id, "projects.create": projects_create,
    "projects.update": projects_update,
    "tasks.create": create, "tasks.edit": edit, "tasks.update": update, "tasks.delete": delete, "tasks.ping": ping,
    "tasks.get_by_id": get_by_id, "tasks.get_all": get_all, "tasks.reset": reset,
    "tasks.started": _mover("in_progress", "started"), "tasks.completed": _mover("completed", "completed"),
    "tasks.failed": _mover("failed", "completed"), "tasks.stopped": _mover("stopped", "completed"),
    "tasks.stop": _mover("stopped", "completed"), "tasks.close": _mover("closed"),
    "tasks.publish": _mover("published", "published"),
    "tasks.edit_hyper_params": edit_hyper_params, "tasks.delete_hyper_params": delete_hyper_params,
    "tasks.get_hyper_params": get_hyper_params, "tasks.edit_configuration": edit_configuration,
    "tasks.get_configurations": get_configurations, "tasks.set_requirements": set_requirements,
    "tasks.add_or_update_model": add_or_update_model, "tasks.add_or_update_artifacts": add_or_update_artifacts,
}
