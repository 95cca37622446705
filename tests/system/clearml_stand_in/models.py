"""The endpoints of models."""

from . import query
from .store import checked_name, now
from .wire import ApiError

EDITED = ("name", "uri", "framework", "labels", "design", "tags", "system_tags", "comment", "project", "task", "parent",
          "iteration", "ready")


def _check_values(store, body):
    if "name" in body:
        body["name"] = checked_name("model", body["name"])
    for table, key in (("tasks", "task"), ("projects", "project"), ("models", "parent")):
        if body.get(key):
            store.row(table, body[key])


def _keyed(items):
    """Metadata items by their keys."""
    for item in items:
        if not all(isinstance(item.get(key), str) for key in ("key", "type", "value")):
            raise ApiError(400, 12, f"a metadata item needs key, type and value as strings: {item}", careless=True)
    return {item["key"]: item for item in items}


def create(store, body, _worker):
    _check_values(store, body)
    metadata = _keyed(body.pop("metadata", None) or [])
    values = {"framework": "", "labels": {}, "design": {}, "comment": "", "ready": True, **body}  # ready: if not told
    return {"id": store.insert("models", metadata=metadata, **values)["id"], "created": True}


def edit(store, body, _worker):
    row = store.row("models", body["model"])
    _check_values(store, body)
    row.update({key: body[key] for key in EDITED if key in body}, last_update=now())
    if body.get("metadata"):
        row["metadata"] = _keyed(body["metadata"])
    return {"updated": 1, "fields": {key: row[key] for key in EDITED if key in body}}


def get_by_id(store, body, _worker):
    return {"model": store.row("models", body["model"])}


def get_all(store, body, _worker):
    return {"models": query.find(store.models.values(), body)}


def add_or_update_metadata(store, body, _worker):
    row = store.row("models", body["model"])
    kept = {} if body.get("replace_metadata") else row["metadata"]
    row.update(metadata={**kept, **_keyed(body["metadata"])}, last_update=now())
    return {"updated": 1}


def delete_metadata(store, body, _worker):
    row = store.row("models", body["model"])
    row["metadata"] = {key: item for key, item in row["metadata"].items() if key not in body["keys"]}
    return {"updated": 1}


def set_ready(store, body, _worker):
    row = store.row("models", body["model"])
    if row["ready"]:
        raise ApiError(400, 203, f"Model is already marked as ready: id={row['id']}")
    task = store.tasks.get(row.get("task"))
    if task and body.get("publish_task", True) and task["status"] != "published":
        if task["status"] not in ("completed", "stopped", "failed"):
            raise ApiError(400, 110, f"Invalid task status: a task that is {task['status']} is not published")
        task.update(status="published", status_changed=now())
    row.update(ready=True, last_update=now())
    return {"updated": 1}


def delete(store, body, _worker):
    row = store.row("models", body["model"])
    slots = [slot["model"] for task in store.tasks.values() for side in task["models"].values() for slot in side]
    if row["id"] in slots and not body.get("force"):
        raise ApiError(400, 205, f"Model is in use: id={row['id']}")
    del store.models[row["id"]]
    return {"deleted": 1, "url": row.get("uri")}


ENDPOINTS = {
    "models.create": create, "models.edit": edit, "models.update": edit, "models.get_by_id": get_by_id,
    "models.get_all": get_all, "models.add_or_update_metadata": add_or_update_metadata,
    "models.delete_metadata": delete_metadata, "models.set_ready": set_ready, "models.delete": delete,
}
