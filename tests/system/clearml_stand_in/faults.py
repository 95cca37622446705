"""What a test wants to go wrong: faults that are switched on and off while the server runs.

Each kind has its own options, besides `where` (a regular expression that the whole endpoint must match, such as
"events[.]add_batch", "files[.].*"; default: everything), `times` (how many requests meet it; default: until it is
removed) and `after` (how many matching requests pass first):

    answer      code, subcode, message, body, content_type, headers: this instead of an answer; nothing takes effect
    drop        the connection is closed without an answer; nothing takes effect
    drop_after  it takes effect, then the connection is closed without an answer
    truncate    it takes effect; the answer breaks off in the middle
    garble      it takes effect; the answer is 200, and `body` instead of JSON (default: a proxy's page)
    slow        seconds: waits, then goes on as ever
    hang        no answer until the fault is removed; then the connection is closed; nothing takes effect
    redirect    location, code (default 307): to there, with the request's path behind it
"""

import dataclasses
import re
import threading

OPTIONS = {
    "answer": {"code": 503, "subcode": 0, "message": "fault", "body": None, "content_type": "text/html", "headers": {}},
    "drop": {},
    "drop_after": {},
    "truncate": {},
    "garble": {"body": "<html><body>It works!</body></html>"},
    "slow": {"seconds": 1.0},
    "hang": {},
    "redirect": {"location": None, "code": 307},
}


@dataclasses.dataclass
class Fault:
    number: int
    kind: str
    where: str
    times: int | None
    after: int
    options: dict
    hits: int = 0
    seen: int = 0
    removed: threading.Event = dataclasses.field(default_factory=threading.Event)

    def meets(self, endpoint):
        if self.removed.is_set() or not re.fullmatch(self.where, endpoint):
            return False
        self.seen += 1
        if self.seen <= self.after or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True


class Faults:
    """Safe to use from any thread. The oldest fault that a request meets is the one it gets."""

    def __init__(self):
        self._lock = threading.Lock()
        self._faults, self._count = [], 0

    def add(self, kind, where=".*", times=None, after=0, **options):
        """The fault, whose hits a test may count. Raises ValueError."""
        if kind not in OPTIONS:
            raise ValueError(f"no such fault {kind!r}; there are {', '.join(OPTIONS)}")
        strange = set(options) - set(OPTIONS[kind])
        if strange:
            raise ValueError(f"fault {kind} has no option {', '.join(sorted(strange))}; it has {list(OPTIONS[kind])}")
        if kind == "redirect" and not options.get("location"):
            raise ValueError("fault redirect needs a location, such as http://127.0.0.1:1234")
        re.compile(where)
        with self._lock:
            self._count += 1
            fault = Fault(self._count, kind, where, times, after, {**OPTIONS[kind], **options})
            self._faults.append(fault)
            return fault

    def remove(self, fault):
        """By the fault or its number. What hangs in it is let go."""
        number = getattr(fault, "number", fault)
        with self._lock:
            for found in [found for found in self._faults if found.number == number]:
                found.removed.set()
                self._faults.remove(found)

    def clear(self):
        for fault in list(self._faults):
            self.remove(fault)

    def public(self):
        """Those that are on, as JSON can hold them."""
        with self._lock:
            return [{key: value for key, value in vars(fault).items() if key != "removed"} for fault in self._faults]

    def meet(self, endpoint):
        """The fault that a request to the endpoint gets, or None."""
        with self._lock:
            return next((fault for fault in self._faults if fault.meets(endpoint)), None)
