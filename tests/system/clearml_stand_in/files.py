"""The file server: uploads to its root, downloads by path, both with the API's token."""

import json
import urllib.parse

from .wire import Answer, ApiError, read_multipart


def upload(store, request, violate):
    """Stores each part that has a file name under the part's name, as it stands."""
    if urllib.parse.urlsplit(request.path).path not in ("", "/"):
        violate(f"upload to {request.path}, not to the root")
        return Answer(405, b"Method Not Allowed", "text/plain")
    try:
        parts = read_multipart(request.headers.get("content-type", ""), request.body)
    except ValueError as error:
        violate(str(error))
        return Answer(400, str(error).encode(), "text/plain")
    stored = []
    for part in parts:
        if part.filename is None:
            violate(f"part {part.name!r} has no file name: nothing is stored")
            continue
        try:
            path = store.file(part.name)
        except ValueError as error:
            violate(str(error))
            return Answer(400, str(error).encode(), "text/plain")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(part.data)
        stored.append(part.name)
    return Answer(200, json.dumps(stored).encode())


def download(store, request, violate):
    """What a path names, once unquoted; also HEAD and DELETE."""
    name = urllib.parse.unquote(urllib.parse.urlsplit(request.path).path)
    try:
        path = store.file(name)
    except ValueError as error:
        violate(str(error))
        return Answer(404, b"Not Found", "text/plain")
    if not path.is_file():
        return Answer(404, f"File {name} not found".encode(), "text/plain")
    if request.method == "DELETE":
        path.unlink()
        return Answer(200, b"OK", "text/plain")
    return Answer(200, path.read_bytes(), "application/octet-stream")


def serve(store, auth, request, violate):
    """The answer of the file server; violate(reason) counts what a correct client does not do."""
    header = request.headers.get("authorization", "")
    if header and not header.startswith("Bearer "):
        violate(f"{header.split(' ')[0]} credentials sent to the file host: it takes tokens")
    try:
        auth.check_bearer(header)
    except ApiError as error:
        if not header:
            violate("no token for the file host")
        return Answer(error.code, error.message.encode(), "text/plain")
    if request.method == "POST":
        return upload(store, request, violate)
    if request.method in ("GET", "HEAD", "DELETE"):
        return download(store, request, violate)
    violate(f"{request.method} on the file host: uploads are POST to its root")
    return Answer(405, b"Method Not Allowed", "text/plain")
