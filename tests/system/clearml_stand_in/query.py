"""The filters, pages and projections of the *.get_all calls."""

import re

from .wire import ApiError

LARGEST_PAGE = 500
LISTS = {"id", "status", "type", "tags", "system_tags", "parent", "project", "task", "framework", "uri", "user"}
NOT_FILTERS = {"only_fields", "order_by", "page", "page_size", "search_hidden", "method", "include_subprojects",
               "allow_public", "size", "scroll_id", "refresh_scroll", "shallow_search", "include_stats",
               "permission_roots_only"}
DATES = {"last_update", "status_changed", "created", "started", "completed"}
COMPARE = {">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, "<": lambda a, b: a < b}


def dotted(row, path):
    """What is there, or None."""
    for key in path.split("."):
        row = row.get(key) if isinstance(row, dict) else None
    return row


def compiled(pattern, flags=0):
    try:
        return re.compile(pattern, flags)
    except re.error as error:
        raise ApiError(400, 21, f"Invalid regular expression {pattern!r}: {error}", careless=True) from error


def _in_list(value, wanted):
    """Words that a value (or one of a list of values) must be among; "-x" and what follows "__$not" must be absent."""
    values = value if isinstance(value, list) else [value]
    mode, refuse, some, every, absent = "or", False, [], [], []
    for word in wanted:
        if word in ("__$all", "__$and"):
            mode = "and"
        elif word in ("__$any", "__$or"):
            mode = "or"
        elif word == "__$not":
            refuse = True
        else:
            if isinstance(word, str) and word.startswith("-"):
                refuse, word = True, word[1:]
            (absent if refuse else every if mode == "and" else some).append(word)
            refuse = False
    return (not some or any(word in values for word in some)) and all(word in values for word in every) \
        and not any(word in values for word in absent)


def _compares(value, wanted):
    """Dates in ISO 8601, such as ">=2026-01-02T03:04:05"."""
    for word in wanted if isinstance(wanted, list) else [wanted]:
        sign = next((sign for sign in COMPARE if word.startswith(sign)), None)
        if sign is None:
            raise ApiError(400, 12, f"a date filter begins with one of {' '.join(COMPARE)}: {word!r}", careless=True)
        if value is None or not COMPARE[sign](value, word[len(sign):].replace(" ", "T")):
            return False
    return True


def _any_all(row, condition, how):
    """{"fields": [..], "pattern": ".."}, which ignores case."""
    pattern = compiled(condition["pattern"], re.IGNORECASE)
    return how(pattern.search(str(dotted(row, field) or "")) for field in condition["fields"])


def _matches(row, key, wanted):
    if key in ("name", "basename", "comment", "description", "search_text"):
        return compiled(wanted).search(row.get("name" if key == "search_text" else key) or "") is not None
    if key in ("_any_", "_all_"):
        return _any_all(row, wanted, any if key == "_any_" else all)
    if key in DATES:
        return _compares(row.get(key), wanted)
    if key in LISTS:
        return _in_list(dotted(row, key), wanted if isinstance(wanted, list) else [wanted])
    if key == "ready":
        return bool(row.get("ready")) == wanted
    raise ApiError(500, 0, f"the stand-in does not know the filter {key!r}: add it to query.py")


def _projected(row, fields):
    result = {"id": row["id"]}
    for path in fields:
        value = dotted(row, path)
        if value is None:
            continue
        inner, parts = result, path.split(".")
        for part in parts[:-1]:
            inner = inner.setdefault(part, {})
        inner[parts[-1]] = value
    return result


def find(rows, body):
    """The rows that a get_all asks for: filtered, in order, one page of them, as far as only_fields wants them."""
    filters = {key: value for key, value in body.items() if key not in NOT_FILTERS and value not in (None, [])}
    found = [row for row in rows if all(_matches(row, key, wanted) for key, wanted in filters.items())]
    if not body.get("search_hidden") and not body.get("id"):
        found = [row for row in found if "hidden" not in row["system_tags"]]
    for order in reversed(body.get("order_by") or []):
        path = order.lstrip("-")
        keys = {row["id"]: dotted(row, path) for row in found}
        found.sort(key=lambda row: (keys[row["id"]] is not None, keys[row["id"]] or ""), reverse=order.startswith("-"))
    size = min(body.get("page_size") or LARGEST_PAGE, LARGEST_PAGE)
    first = (body.get("page") or 0) * size
    found = found[first:first + size]
    fields = body.get("only_fields")
    return [_projected(row, fields) for row in found] if fields else found
