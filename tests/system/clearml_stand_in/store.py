"""Projects, tasks, models, events and files, in memory; files also on disk, below the store's folder."""

import datetime
import pathlib
import threading
import uuid

from .wire import ApiError

SHORTEST_NAME = 3
UNKNOWN = {"tasks": (101, "task"), "models": (201, "model"), "projects": (401, "project")}


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat()


def checked_name(what, name):
    """The name without blanks around it."""
    name = name.strip()
    if len(name) < SHORTEST_NAME:
        raise ApiError(400, 12, f"{what} name {name!r} has fewer than {SHORTEST_NAME} characters", careless=True)
    return name


class Store:
    """Whoever reads or changes it holds its lock; the endpoints do not: the server does it for them."""

    def __init__(self, folder):
        self.lock = threading.RLock()
        self.folder = pathlib.Path(folder)
        self.projects, self.tasks, self.models = {}, {}, {}
        self.points = {}  # (owner, type, iter, metric, variant) -> event: what is sent again replaces
        self.logs = []  # log events, which nothing makes one of

    def row(self, table, key):
        rows = getattr(self, table)
        if key not in rows:
            subcode, what = UNKNOWN[table]
            raise ApiError(400, subcode, f"Invalid {what} id: id={key}, company=stand-in", id=str(key))
        return rows[key]

    def insert(self, table, **values):
        key = uuid.uuid4().hex
        row = {"id": key, "company": "stand-in", "user": "tester", "created": now(), "last_update": now(),
               "tags": [], "system_tags": [], **values}
        getattr(self, table)[key] = row
        return row

    def project_named(self, name):
        """The project's row, or None."""
        return next((row for row in self.projects.values() if row["name"] == name), None)

    def make_project(self, name, **values):
        """The row; those above it, by the slashes in its name, are made as needed."""
        parts = [part.strip() for part in name.split("/")]
        if not all(parts):
            raise ApiError(400, 407, f"Invalid project name: {name!r}", careless=True)
        name = "/".join(parts)
        if self.project_named(name):
            raise ApiError(400, 801, f"Value combination already exists (unique field): name={name}")
        above = name.rpartition("/")[0]
        if above and not self.project_named(above):
            self.make_project(above)
        return self.insert("projects", name=name, basename=parts[-1],
                           **{"description": "", **values})

    def events(self, owner, kind):
        """The events of a task or model, by time."""
        if kind == "log":
            found = [event for event in self.logs if event["task"] == owner]
        else:
            found = [event for key, event in self.points.items() if key[:2] == (owner, kind)]
        return sorted(found, key=lambda event: event["timestamp"])

    def forget_events(self, owner):
        self.points = {key: event for key, event in self.points.items() if key[0] != owner}
        self.logs = [event for event in self.logs if event["task"] != owner]

    def file(self, name):
        """Where the file server keeps what is called so. Raises ValueError for a name that leaves its folder."""
        path = (self.folder / name.lstrip("/")).resolve()
        if path == self.folder.resolve() or self.folder.resolve() not in path.parents:
            raise ValueError(f"the name {name!r} leaves the file server's folder")
        return path
