"""Requests to a ClearML server as one writes them, right or wrong: what tests of the stand-in speak to it with."""

import base64
import contextlib
import http.client
import json
import pathlib
import tempfile
import urllib.parse

from clearml_server import ClearmlServer

SECONDS = 30  # the longest that anything is waited for
MOMENT = 1795356303458  # a timestamp, in milliseconds


class Client:
    """Opens a connection for each request. addresses: host -> URL; context: of TLS."""

    def __init__(self, addresses, key="", secret="", token=None, context=None):
        self.addresses, self.key, self.secret, self.token, self.context = addresses, key, secret, token, context

    def send(self, host, method, path, body=b"", seconds=SECONDS, **headers):
        """The answer's status, headers and bytes; headers are given with _ for -."""
        address = urllib.parse.urlsplit(self.addresses[host])
        kind = http.client.HTTPSConnection if self.context else http.client.HTTPConnection
        options = {"context": self.context} if self.context else {}
        connection = kind(address.hostname, address.port, timeout=seconds, **options)
        named = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
        if self.token and "Authorization" not in headers:
            named["Authorization"] = f"Bearer {self.token}"
        with contextlib.closing(connection):
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def login(self):
        """(code, subcode)"""
        words = base64.b64encode(f"{self.key}:{self.secret}".encode()).decode()
        status, _, body = self.send("api", "POST", "/v2.23/auth.login", Authorization=f"Basic {words}")
        answer = json.loads(body)
        if status == 200:
            self.token = answer["data"]["token"]
        return status, answer["meta"]["result_subcode"]

    def call(self, endpoint, body=None, method="POST", raw=None, content_type="application/json", path=None,
             **headers):
        """(code, subcode, data)"""
        data = raw if raw is not None else json.dumps(body or {}).encode()
        path = path or f"/v2.23/{endpoint}"
        status, _, text = self.send("api", method, path, data, Content_Type=content_type, **headers)
        answer = json.loads(text)
        assert answer["meta"]["result_code"] == status, answer
        return status, answer["meta"]["result_subcode"], answer["data"]

    def data(self, endpoint, **body):
        code, subcode, data = self.call(endpoint, body)
        assert code == 200, (endpoint, body, code, subcode)
        return data

    def events(self, *events, content_type="application/json-lines"):
        return self.call("events.add_batch", raw=b"\n".join(json.dumps(event).encode() for event in events),
                         content_type=content_type)

    def upload(self, name, data, filename=True, path="/", method="POST", **headers):
        head = f'Content-Disposition: form-data; name="{name}"' + (f'; filename="{name}"' if filename else "")
        body = f"--XX\r\n{head}\r\n\r\n".encode() + data + b"\r\n--XX--\r\n"
        headers = {"Content_Type": "multipart/form-data; boundary=XX", **headers}
        return self.send("files", method, path, body, **headers)

    def task(self, name="a task", **values):
        return self.data("tasks.create", name=name, type="training", **values)["id"]


def scalar(task, **values):
    return {"type": "training_stats_scalar", "task": task, "timestamp": MOMENT, "iter": 1, "metric": "loss",
            "variant": "train", "value": 0.5, **values}


def client_of(server, **options):
    return Client(server.addresses, server.auth.key, server.auth.secret, **options)


@contextlib.contextmanager
def running(**options):
    """A server and a client that is logged in."""
    with tempfile.TemporaryDirectory() as folder, ClearmlServer(pathlib.Path(folder) / "files", **options) as server:
        client = client_of(server)
        assert client.login() == (200, 0)
        yield server, client


def raises(kinds, action):
    try:
        result = action()
    except kinds:
        return
    raise AssertionError(f"expected {kinds}, got {result}")
