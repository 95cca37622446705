"""The server: hosts, checks, faults and control together."""

import json
import re
import ssl
import urllib.parse

from . import auth, events, files, models, schemas, tasks
from .faults import Faults
from .listener import Listener
from .records import Records
from .store import Store
from .wire import Answer, ApiError, envelope, read_json

ENDPOINTS = {**tasks.ENDPOINTS, **models.ENDPOINTS, **events.ENDPOINTS}
HOSTS = ("api", "web", "files", "other")
LARGEST_BODY = 15728640
PATH = re.compile(r"/(?:v(?P<version>\d+\.\d+)/)?(?P<endpoint>[a-z_]+\.[a-z_]+)")


class ClearmlServer:
    """Runs from its making to close(), or for a with block. Everything may be called from any thread.

    folder: where uploads are kept. tolerate_sdk: what the official SDK is known to do wrong (GET with a body, "method"
    in bodies and events) is no violation when its own client does it. tls: (certificate file, key file).
    ports: host -> number; those not given come from the kernel.

    The hosts: api; web, which has nothing; files; other, a host that is none of the server's: it serves the stored
    files to everyone, speaks http even where the others speak https, and to be sent credentials there is a violation,
    as it is on web.
    """

    def __init__(self, folder, tolerate_sdk=False, tls=None, ports=None):
        self.store, self.records, self.faults, self.auth = Store(folder), Records(), Faults(), auth.Auth()
        self._tolerate_sdk = tolerate_sdk
        schemas.requests()  # now, not within the first request's time limit
        context = None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
        numbers = ports or {}
        self.listeners = {host: Listener(host, self._serve, None if host == "other" else context,
                                         numbers.get(host, 0)) for host in HOSTS}
        self._control = Listener("control", self._serve_control, port=numbers.get("control", 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.faults.clear()
        for listener in [*self.listeners.values(), self._control]:
            listener.end()

    @property
    def addresses(self):
        """Host -> its URL."""
        return {**{host: listener.url for host, listener in self.listeners.items()}, "control": self._control.url}

    def environment(self):
        """The variables that lead a client here."""
        return {"CLEARML_API_HOST": self.addresses["api"], "CLEARML_WEB_HOST": self.addresses["web"],
                "CLEARML_FILES_HOST": self.addresses["files"], "CLEARML_API_ACCESS_KEY": self.auth.key,
                "CLEARML_API_SECRET_KEY": self.auth.secret}

    def close_port(self, host):
        self.listeners[host].close()

    def open_port(self, host):
        self.listeners[host].open()

    # --- one request

    def _serve(self, host, method, path, headers, body, connection):
        request = self.records.add(host=host, method=method, path=path, headers=headers, body=body,
                                   connection=connection)
        request.endpoint = self._endpoint(request)
        fault = self.faults.meet(request.endpoint)
        request.fault = fault.kind if fault else None
        answer = self._instead(fault, request) if fault else None
        if fault and answer is None and fault.kind in ("drop", "hang"):
            return None
        if answer is None:
            answer = self._route(request)
            if fault and fault.kind == "drop_after":
                return None
            if fault and fault.kind == "garble":
                answer = Answer(200, fault.options["body"].encode(), "text/html")
        request.status = answer.status
        return answer, bool(fault) and fault.kind == "truncate"

    @staticmethod
    def _endpoint(request):
        if request.host == "api":
            match = PATH.fullmatch(urllib.parse.urlsplit(request.path).path)
            return match["endpoint"] if match else "api.unknown"
        action = "upload" if request.method in ("POST", "PUT") else "download"
        return f"{request.host}.{action}"

    @staticmethod
    def _instead(fault, request):
        """The answer of a fault that has one. What waits, waits here."""
        options = fault.options
        if fault.kind == "slow":
            fault.removed.wait(options["seconds"])
        elif fault.kind == "hang":
            fault.removed.wait()
        elif fault.kind == "redirect":
            return Answer(options["code"], headers={"Location": options["location"] + request.path})
        elif fault.kind == "answer" and options["body"] is not None:
            return Answer(options["code"], options["body"].encode(), options["content_type"], options["headers"])
        elif fault.kind == "answer":
            answer = envelope(request.endpoint, None, options["code"], options["subcode"], options["message"])
            answer.headers = options["headers"]
            return answer
        return None

    def _route(self, request):
        if request.host == "api":
            return self._serve_api(request)

        def violate(reason):
            self.records.violate(request, reason)

        with self.store.lock:
            if request.host == "files":
                return files.serve(self.store, self.auth, request, violate)
            if "authorization" in request.headers:
                violate(f"credentials sent to {request.host}, which is no host of the API")
            return files.download(self.store, request, violate)

    # --- the API

    def _serve_api(self, request):
        """The envelope, and violations counted on the way."""
        try:
            return envelope(request.endpoint, self._call(request))
        except ApiError as error:
            if error.careless:
                self.records.violate(request, error.message)
            return envelope(request.endpoint, None, error.code, error.subcode, error.message, error.data)
        except Exception as error:  # else it would look like a broken connection
            self.records.violate(request, f"the stand-in itself failed: {type(error).__name__}: {error}")
            return envelope(request.endpoint, None, 500, 100, f"General data error: {error}")

    def _call(self, request):
        self._check_request(request)
        header = request.headers.get("authorization")
        if request.endpoint == "auth.login":
            options = urllib.parse.parse_qs(urllib.parse.urlsplit(request.path).query)
            life = options.get("expiration_sec")
            return {"token": self.auth.login(header, int(life[0]) if life else None)}
        if (header or "").startswith("Basic "):
            self.records.violate(request, "key and secret sent to an endpoint other than auth.login")
        self.auth.check_bearer(header)
        worker = request.headers.get("x-clearml-worker")
        if request.endpoint == "events.add_batch":
            items = self._batch(request)
            with self.store.lock:
                return self._plain(events.add_all(self.store, items, worker))
        body = self._body(request)
        with self.store.lock:
            return self._plain(ENDPOINTS[request.endpoint](self.store, body, worker))

    @staticmethod
    def _plain(data):
        """A copy, that others may change the rows meanwhile."""
        return json.loads(json.dumps(data))

    def _tolerated(self, request):
        return self._tolerate_sdk and request.by_sdk

    def _check_request(self, request):
        """Method, path and headers."""
        match = PATH.fullmatch(urllib.parse.urlsplit(request.path).path)
        if not match:
            raise ApiError(400, 0, f"Invalid request path {request.path}", careless=True)
        if request.endpoint not in ENDPOINTS and request.endpoint not in ("auth.login", "events.add_batch"):
            real = request.endpoint in schemas.requests()
            reason = "a server has it, this stand-in does not" if real else "no server has it"
            raise ApiError(404, 0, f"Unable to find endpoint for {request.endpoint} ({reason})", careless=True)
        if request.method not in ("GET", "POST"):
            raise ApiError(405, 0, f"{request.method} {request.endpoint}: the API takes POST", careless=True)
        violate = self.records.violate
        if match["version"] not in (None, schemas.VERSION):
            violate(request, f"API version {match['version']}: what is checked here is {schemas.VERSION}")
        elif match["version"] is None and request.endpoint != "auth.login":
            violate(request, f"no version in the path {request.path}")
        if request.method == "GET" and request.body and not self._tolerated(request):
            violate(request, "GET with a body")
        if len(request.body) > LARGEST_BODY:
            violate(request, f"a body of {len(request.body)} bytes; at most {LARGEST_BODY} are taken")
        if "content-encoding" in request.headers:
            encoding = request.headers["content-encoding"]
            raise ApiError(415, 0, f"Content-Encoding {encoding!r} is not taken", careless=True)

    def _read(self, request, text):
        """JSON, with what is wrong with it counted."""
        try:
            value, wrong = read_json(text)
        except (ValueError, RecursionError) as error:
            raise ApiError(400, 0, f"bad JSON: {error}: {text[:200]!r}", careless=True) from error
        for reason in wrong:
            self.records.violate(request, reason)
        if any(reason.endswith("not JSON") for reason in wrong):
            raise ApiError(400, 0, f"bad JSON: {wrong}")
        if isinstance(value, dict) and self._tolerated(request):
            value.pop("method", None)
        return value

    def _body(self, request):
        """The body's properties, checked against the schema; null is not given, and what is unknown is dropped."""
        content_type = request.headers.get("content-type", "")
        if content_type.partition(";")[0].strip() != "application/json":
            raise ApiError(400, 17, f"Content-Type {content_type!r}, not application/json", careless=True)
        body = request.json = self._read(request, request.body)
        if not isinstance(body, dict):
            raise ApiError(400, 0, f"the body is no JSON object: {request.body[:200]!r}", careless=True)
        errors, unknown = schemas.check(request.endpoint, body)
        for path in unknown:
            self.records.violate(request, f"unknown property {path}")
        if errors:
            path, validator, message = errors[0]
            hyperparams = path.startswith("hyperparams")
            subcode = 11 if validator == "required" else 800 if hyperparams else 16 if validator == "type" else 12
            raise ApiError(400, subcode, f"{path}: {message}", careless=True)
        named = schemas.requests()[request.endpoint].get("properties", {})
        taken = {*named, *schemas.ALSO.get(request.endpoint, ())}
        return {key: value for key, value in body.items() if value is not None and key in taken}

    def _batch(self, request):
        """[(event, why it is refused or None)] of a body of JSON lines."""
        content_type = request.headers.get("content-type", "")
        if content_type != "application/json-lines":
            raise ApiError(400, 17, f"Content-Type {content_type!r}, not application/json-lines", careless=True)
        if not request.body.strip():
            raise ApiError(400, 17, "an empty batch", careless=True)
        lines = request.body.removesuffix(b"\n").split(b"\n")
        if not all(lines):
            raise ApiError(400, 0, "a blank line in a batch", careless=True)
        items = []
        request.json = [self._read(request, line) for line in lines]
        for event in request.json:
            refused, careless = schemas.check_event(event)
            for reason in refused + careless:
                self.records.violate(request, reason)
            items.append((event, refused[0] if refused else None))
        return items

    # --- control

    def _serve_control(self, _host, _method, path, _headers, body, _connection):
        """POST /COMMAND with a JSON object of the command's arguments; commands() names them."""
        try:
            command = self.commands()[path.strip("/")]
            result, status = command(**json.loads(body or b"{}")), 200
        except Exception as error:  # whatever it is, the other side of this port shall see it
            result, status = {"error": f"{type(error).__name__}: {error}"}, 400
        return Answer(status, json.dumps(result).encode()), False

    def commands(self):
        """What the control port offers."""
        return {
            "add_fault": lambda **options: self.faults.add(**options).number,
            "remove_fault": lambda fault: self.faults.remove(fault),
            "clear_faults": self.faults.clear,
            "faults": self.faults.public,
            "close_port": self.close_port,
            "open_port": self.open_port,
            "revoke_tokens": self.auth.revoke,
            "set_token_life": lambda seconds: setattr(self.auth, "life", seconds),
            "requests": lambda endpoint=None: [request.public() for request in (
                self.records.of(endpoint) if endpoint else self.records.requests)],
            "violations": lambda: [vars(violation) for violation in self.records.violations],
            "tables": self._tables,
        }

    def _tables(self):
        with self.store.lock:
            events_ = [*self.store.points.values(), *self.store.logs]
            return self._plain({"projects": self.store.projects, "tasks": self.store.tasks,
                                "models": self.store.models, "events": events_})
