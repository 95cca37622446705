"""Requests as they came, and what was wrong with them."""

import dataclasses
import threading
import time

SDK = "clearml-"  # how X-ClearML-Client of the official SDK begins


@dataclasses.dataclass
class Request:
    number: int
    host: str  # "api", "files", "web" or "other"
    method: str
    path: str
    headers: dict  # lower-case name -> value
    body: bytes
    connection: int  # requests of equal number came over one connection
    endpoint: str = ""  # "tasks.edit", "files.upload", "web.get", ..
    json: object = None  # the body, where it is JSON; the list of events of a batch
    status: int | None = None  # of the answer; None when there was none
    fault: str | None = None  # the kind of the fault that it met
    time: float = dataclasses.field(default_factory=time.time)

    @property
    def by_sdk(self):
        return self.headers.get("x-clearml-client", "").startswith(SDK)

    def public(self):
        """As JSON can hold it."""
        return {**dataclasses.asdict(self), "body": self.body.decode("utf-8", "replace")}


@dataclasses.dataclass
class Violation:
    request: int  # its number
    endpoint: str
    reason: str


class Records:
    """Safe to use from any thread."""

    def __init__(self):
        self._lock = threading.Lock()
        self._requests, self._violations = [], []

    def add(self, **values):
        with self._lock:
            request = Request(number=len(self._requests), **values)
            self._requests.append(request)
            return request

    def violate(self, request, reason):
        with self._lock:
            self._violations.append(Violation(request.number, request.endpoint, reason))

    @property
    def requests(self):
        with self._lock:
            return list(self._requests)

    @property
    def violations(self):
        with self._lock:
            return list(self._violations)

    def of(self, endpoint):
        """The requests to one endpoint, oldest first."""
        return [request for request in self.requests if request.endpoint == endpoint]

    def forget_violations(self):
        """Hands out the violations so far and starts anew."""
        with self._lock:
            found, self._violations = self._violations, []
            return found
