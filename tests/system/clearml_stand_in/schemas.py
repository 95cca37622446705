"""What each request may hold: the JSON schemas of the official SDK, for API 2.23.

They are read out of the package's source with ast, as to import the package starts threads and reads configuration.
"""

import ast
import functools
import importlib.util
import pathlib

import jsonschema

VERSION = "2.23"
SERVICES = ("auth", "projects", "tasks", "models", "events")
# Properties that the server knows and the SDK's schemas of this version do not.
ALSO = {
    "tasks.get_all": {"include_subprojects", "allow_public"},
    "models.get_all": {"include_subprojects", "allow_public", "search_hidden"},
    "projects.get_all": {"allow_public", "include_stats", "permission_roots_only"},
}
EVENT_KEYS = {
    "training_stats_scalar": ("task", "timestamp", "iter", "metric", "variant", "value"),
    "training_stats_vector": ("task", "timestamp", "iter", "metric", "variant", "values"),
    "training_debug_image": ("task", "timestamp", "iter", "metric", "variant", "key", "url"),
    "plot": ("task", "timestamp", "iter", "metric", "variant", "plot_str"),
    "log": ("task", "timestamp", "level", "msg"),
}
OLDEST_MILLISECONDS = 10**11  # 1973 in milliseconds; in seconds the year 5138


def _class_values(node):
    """The literal class attributes of a class statement."""
    values = {}
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            try:
                values[statement.targets[0].id] = ast.literal_eval(statement.value)
            except ValueError:
                pass  # a name, not a literal: nothing that is asked for here
    return values


@functools.cache
def requests():
    """"service.action" -> JSON schema of its request."""
    package = importlib.util.find_spec("clearml")
    if package is None:
        raise RuntimeError("the package clearml, whose schemas are used, is not installed: see tests/requirements.txt")
    folder = pathlib.Path(package.submodule_search_locations[0]) / "backend_api" / "services"
    folder /= "v" + VERSION.replace(".", "_")
    schemas = {}
    for service in SERVICES:
        for node in ast.parse((folder / f"{service}.py").read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name.endswith("Request"):
                values = _class_values(node)
                schemas[f"{values['_service']}.{values['_action']}"] = values.get("_schema", {})
    return schemas


def _without_nulls(body):
    return {key: value for key, value in body.items() if value is not None}


def unknown(schema, value, root=None, path=""):
    """The paths of properties that the schema does not name, where it names any."""
    root = root or schema
    if "$ref" in schema:
        schema = root["definitions"][schema["$ref"].rsplit("/", 1)[1]]
    if isinstance(value, list) and "items" in schema:
        return [found for i, item in enumerate(value) for found in unknown(schema["items"], item, root, f"{path}[{i}]")]
    if not isinstance(value, dict):
        return []
    named, others = schema.get("properties", {}), schema.get("additionalProperties", not schema.get("properties"))
    found = []
    for key, item in value.items():
        where = f"{path}.{key}" if path else key
        if key in named:
            found += unknown(named[key], item, root, where)
        elif isinstance(others, dict):
            found += unknown(others, item, root, where)
        elif not others:
            found.append(where)
    return found


def _errors(schema, value):
    """[(path, validator's name, message)]"""
    errors = jsonschema.Draft7Validator(schema).iter_errors(value)
    return [(".".join(map(str, e.absolute_path)), e.validator, e.message[:300]) for e in errors]


def check(endpoint, body):
    """(errors, unknown properties) of a request's body; JSON null counts as not given."""
    schema = requests()[endpoint]
    body = _without_nulls(body)
    also = ALSO.get(endpoint, ())
    return _errors(schema, body), [path for path in unknown(schema, body) if path not in also]


@functools.cache
def _event_schema(kind):
    """The schema of one kind of event with what may stand beside it, and with every key required."""
    add = requests()["events.add"]
    for definition in add["definitions"].values():
        if definition.get("properties", {}).get("type", {}).get("const") == kind:
            properties = {**definition["properties"], **add["properties"], "worker": {"type": "string"}}
            return {**definition, "properties": properties, "required": ["type", *EVENT_KEYS[kind]],
                    "definitions": add["definitions"]}
    return None


def check_event(event):
    """(reasons that the server would refuse the event for, reasons that only a careful one would)."""
    if not isinstance(event, dict):
        return [f"an event that is no JSON object: {str(event)[:100]}"], []
    kind = event.get("type")
    schema = _event_schema(kind) if kind in EVENT_KEYS else None
    if schema is None:
        return [f"unknown type of event {kind!r}"], []
    refused, careless = [], [f"unknown property {key} of a {kind} event" for key in unknown(schema, event)]
    for path, validator, message in _errors(schema, event):
        if validator == "required":
            lines = careless if message.startswith("'timestamp'") else refused  # the server has a clock itself
            lines.append(f"incomplete {kind} event: {message}")
        else:
            refused.append(f"{kind} event: {path}: {message}")
    timestamp = event.get("timestamp")
    if isinstance(timestamp, (int, float)) and timestamp < OLDEST_MILLISECONDS:
        careless.append(f"timestamp {timestamp} of a {kind} event is in seconds, not in milliseconds")
    return refused, careless
