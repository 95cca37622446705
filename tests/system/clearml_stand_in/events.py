"""The endpoints of events."""

import hashlib
import json
import time

from .store import now
from .wire import ApiError

SINGLE_VALUE = -(2**31)  # the iteration of what report_single_value reports
SCALAR, PLOT, IMAGE, LOG = "training_stats_scalar", "plot", "training_debug_image", "log"


def _refusal(store, event):
    """Why the server does not take a well-formed event, or None."""
    owner = event["task"]
    if event.get("model_event"):
        if event["type"] == LOG:
            return "log events are of tasks, not of models"
        return None if owner in store.models else f"Invalid model id: {owner}"
    if owner not in store.tasks:
        return f"Invalid task id: {owner}"
    if store.tasks[owner]["status"] == "published" and not event.get("allow_locked"):
        return f"Task is published: {owner}"
    if event["type"] == PLOT and not event.get("skip_validation"):
        try:
            json.loads(event["plot_str"])
        except ValueError as error:
            return f"plot_str is no JSON: {error}"
    return None


def _remember_last(task, event):
    """What a task itself says about its scalars."""
    if event["iter"] != SINGLE_VALUE:
        task["last_iteration"] = max(task["last_iteration"], event["iter"])
    if event["type"] != SCALAR:
        return
    names = [hashlib.md5(event[key].encode()).hexdigest() for key in ("metric", "variant")]
    last = task["last_metrics"].setdefault(names[0], {}).setdefault(names[1], {})
    value = event["value"]
    last.update(metric=event["metric"], variant=event["variant"], value=value, count=last.get("count", 0) + 1,
                min_value=min(value, last.get("min_value", value)), max_value=max(value, last.get("max_value", value)),
                first_value=last.get("first_value", value))


def add_all(store, items, worker):
    """Adds the events of a batch; items are (event, what is wrong with it). The answer's data."""
    added, errors = 0, {}
    for event, wrong in items:
        wrong = wrong or _refusal(store, event)
        if wrong:
            errors[wrong] = errors.get(wrong, 0) + 1
            continue
        added += 1
        event = {"timestamp": int(time.time() * 1000), "worker": worker, **event}
        if event["type"] == LOG:
            store.logs.append(event)
            continue
        key = (event["task"], event["type"], event.get("iter", 0), event.get("metric", ""), event.get("variant", ""))
        store.points[key] = event
        if event["task"] in store.tasks and "iter" in event and "value" in event:
            _remember_last(store.tasks[event["task"]], event)
    for owner in {event["task"] for event, wrong in items if not wrong and event["task"] in store.tasks}:
        store.tasks[owner].update(last_update=now())
    if not added:
        raise ApiError(400, 131, f"Events not added: {errors}")
    return {"added": added, "errors": sum(errors.values()), "errors_info": errors}


def _page(events, body, size):
    """One page of events, and where the next one begins."""
    first = int(body.get("scroll_id") or 0)
    page = events[first:first + size]
    return page, {"returned": len(page), "total": len(events), "scroll_id": str(first + len(page))}


def get_task_events(store, body, _worker):
    events = store.events(body["task"], body.get("event_type", LOG))
    if body.get("order", "asc") == "desc":
        events.reverse()
    page, rest = _page(events, body, body.get("batch_size") or 500)
    return {"events": page, **rest}


def get_task_log(store, body, _worker):
    earlier, start = body.get("navigate_earlier", True), body.get("from_timestamp")
    events = store.events(body["task"], LOG)
    total = len(events)
    if earlier:
        events.reverse()
    if start is not None:
        events = [event for event in events if (event["timestamp"] < start if earlier else event["timestamp"] > start)]
    page = events[:body.get("batch_size") or 500]
    if body.get("order", "desc" if earlier else "asc") != ("desc" if earlier else "asc"):
        page.reverse()
    return {"events": page, "returned": len(page), "total": total}


def _wanted(event, metrics):
    """Whether [{"metric", "variants"}] asks for the event; all of it is asked for when that is empty."""
    return not metrics or any(event["metric"] == item["metric"] and
                              (not item.get("variants") or event["variant"] in item["variants"]) for item in metrics)


def _latest(events, count):
    """Of each metric and variant the newest iterations."""
    groups = {}
    for event in sorted(events, key=lambda event: -event["iter"]):
        groups.setdefault((event["metric"], event["variant"]), []).append(event)
    return [event for group in groups.values() for event in group[:count]]


def get_task_plots(store, body, _worker):
    events = [event for event in store.events(body["task"], PLOT) if _wanted(event, body.get("metrics"))]
    page, rest = _page(_latest(events, body.get("iters") or 1), body, 10000)
    return {"plots": page, **rest}


def debug_images(store, body, _worker):
    answer = []
    for item in body["metrics"]:
        wanted = [item] if item.get("metric") else []
        events = [event for event in store.events(item["task"], IMAGE) if _wanted(event, wanted)]
        iterations = sorted({event["iter"] for event in events}, reverse=True)[:body.get("iters") or 1]
        answer.append({"task": item["task"], "iterations": [
            {"iter": i, "events": [event for event in events if event["iter"] == i]} for i in iterations]})
    return {"metrics": answer, "scroll_id": "0"}


def _series(store, owner):
    """(metric, variant) -> its scalars in the order of their iterations, without single values."""
    series = {}
    for event in sorted(store.events(owner, SCALAR), key=lambda event: event["iter"]):
        if event["iter"] != SINGLE_VALUE:
            series.setdefault((event["metric"], event["variant"]), []).append(event)
    return series


def _averaged(events, samples, key):
    """At most so many points: means of neighbours."""
    width = max(1, -(-len(events) // samples))
    groups = [events[i:i + width] for i in range(0, len(events), width)]
    return {"x": [group[0]["iter" if key == "iter" else "timestamp"] for group in groups],
            "y": [sum(event["value"] for event in group) / len(group) for group in groups]}


def scalar_metrics_iter_histogram(store, body, _worker):
    answer = {}
    for (metric, variant), events in _series(store, body["task"]).items():
        if _wanted(events[0], body.get("metrics")):
            points = _averaged(events, body.get("samples") or 6000, body.get("key", "iter"))
            answer.setdefault(metric, {})[variant] = {"name": variant, **points}
    return answer


def scalar_metrics_iter_raw(store, body, _worker):
    events = [event for group in _series(store, body["task"]).values() for event in group
              if _wanted(event, [body["metric"]])]
    page, rest = _page(events, body, body.get("batch_size") or 10000)
    variants = {}
    for event in page:
        points = variants.setdefault(event["variant"], {"iter": [], "y": []})
        points["iter"].append(event["iter"])
        points["y"].append(event["value"])
    return {"variants": variants, **rest}


def get_task_single_value_metrics(store, body, _worker):
    def values(owner):
        return [{key: event[key] for key in ("metric", "variant", "value", "timestamp")}
                for event in store.events(owner, SCALAR) if event["iter"] == SINGLE_VALUE]
    return {"tasks": [{"task": task, "values": values(task)} for task in body["tasks"] if values(task)]}


ENDPOINTS = {
    "events.get_task_events": get_task_events, "events.get_task_log": get_task_log,
    "events.get_task_plots": get_task_plots, "events.debug_images": debug_images,
    "events.scalar_metrics_iter_histogram": scalar_metrics_iter_histogram,
    "events.scalar_metrics_iter_raw": scalar_metrics_iter_raw,
    "events.get_task_single_value_metrics": get_task_single_value_metrics,
}
