"""Keys, tokens and passwords, given in every way there is: none is found in anything that a run writes, says, shows or
sends, but in the header Authorization to the hosts that it is for. And what a run does not trust, it tells nothing.

    clearml_secrets_test.py BUILD_FOLDER
"""

import base64
import contextlib
import pathlib
import secrets
import shutil
import subprocess
import tempfile
import threading
import urllib.parse

from clearml_runs import beside_a_server, check_complete, do_all, json_of

AT_ONCE = 4
CLOSED = "http://127.0.0.1:9"  # a port that nobody listens on
KEYS = ("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY")
TINY = {"trainer.init.max_steps": 2}


def forms(secret):
    """How it may be written."""
    return {secret, urllib.parse.quote(secret, safe=""), base64.b64encode(secret.encode()).decode()}


def basic(server):
    return base64.b64encode(f"{server.auth.key}:{server.auth.secret}".encode()).decode()


# --- ways to give them. Each returns (changes of the environment, the secrets in them, do they lead to the server)


def keys(server):
    return [server.auth.key, server.auth.secret, basic(server)]


def by_variables(_place, server):
    return {}, keys(server), True


def by_token(_place, server):
    token = server.auth.token()
    return {**dict.fromkeys(KEYS), "CLEARML_AUTH_TOKEN": token}, [token], True


def by_file(place, server):
    (place.home / "clearml.conf").write_text(
        f'api {{\n credentials {{ "access_key" = "{server.auth.key}"\n "secret_key" = "{server.auth.secret}" }}\n}}\n')
    return dict.fromkeys(KEYS), keys(server), True


def by_old_file(place, server):
    (place.home / "trains.conf").write_text(
        f"api.credentials.access_key={server.auth.key}\napi.credentials.secret_key={server.auth.secret}\n")
    return dict.fromkeys(KEYS), keys(server), True


def by_file_and_variable(place, server):
    path = place.home / "other.conf"
    path.write_text('api.credentials { access_key: ${THE_KEY}, secret_key: ${THE_SECRET} }\n')
    return {**dict.fromkeys(KEYS), "CLEARML_CONFIG_FILE": path, "THE_KEY": server.auth.key,
            "THE_SECRET": server.auth.secret}, keys(server), True


def with_secrets_of_others(place, server):
    """What is in the file and is not for lab."""
    secret = secrets.token_hex(12)
    (place.home / "clearml.conf").write_text(f'sdk.aws.s3 {{ secret: "{secret}" }}\nagent.git_pass = "{secret}x"\n')
    return {}, [secret, *keys(server)], True


def with_a_proxy(_place, server):
    secret = secrets.token_hex(12)
    return {"http_proxy": CLOSED.replace("//", f"//someone:{secret}@")}, [secret, *keys(server)], False


def in_the_address(_place, server):
    secret = secrets.token_hex(12)
    address = server.addresses["api"].replace("//", f"//someone:{secret}@")
    return {"CLEARML_API_HOST": address}, [secret, *keys(server)], False


WAYS = (by_variables, by_token, by_file, by_old_file, by_file_and_variable, with_secrets_of_others, with_a_proxy,
        in_the_address)


# --- what the server does


def well(_server, _words):
    pass


def knows_nobody(server, _words):
    server.auth.secret = server.auth.secret[::-1]
    server.auth.revoke()


def echoes(server, words):
    """As proxies and debug pages do."""
    server.faults.add("answer", where="tasks[.]edit|events.*|files.*", code=400, subcode=12,
                      message=f"bad request: {words}", headers={"X-Echo": words})


def echoes_logins(server, words):
    server.faults.add("answer", code=401, subcode=22, message=f"bad request: {words}")


def sends_elsewhere(server, _words):
    server.faults.add("redirect", location=server.addresses["other"])


def sends_files_elsewhere(server, _words):
    server.faults.add("redirect", where="files.*", location=server.addresses["other"], code=302)


SERVERS = (knows_nobody, echoes, echoes_logins, sends_elsewhere, sends_files_elsewhere)


class CommandLines:
    """Those of all processes, for as long as its with block lasts."""

    def __enter__(self):
        self.seen, self._end = set(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self):
        while not self._end.wait(0.02):
            for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    self.seen.add(path.read_bytes().decode(errors="replace"))

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()


def places_of(found, place, done, server, given):
    """Where the secrets are found that should not be. given: files that the test has put them into."""
    texts = {"standard output": done.out, "standard error": done.said}
    for path in place.folder.rglob("*"):
        if path.is_file() and path not in given:
            texts[str(path)] = path.read_bytes().decode(errors="replace")
    for request in server.records.requests:
        where = f"request {request.number} to {request.host} {request.endpoint}"
        texts[f"{where}: path"], texts[f"{where}: body"] = request.path, request.body.decode(errors="replace")
        for name, value in request.headers.items():
            if name != "authorization" or request.host not in ("api", "files"):
                texts[f"{where}: {name}"] = value
    return [where for where, text in texts.items() if any(form in text for form in found)]


def no_canary(way, does):
    with beside_a_server() as (place, server, _):
        server.auth.key, server.auth.secret = secrets.token_hex(10).upper(), secrets.token_hex(20)
        place.environment.update(server.environment())
        changes, kept, leads_there = way(place, server)
        given = [path for path in place.home.iterdir() if path.is_file()]
        does(server, " ".join(kept))
        with CommandLines() as lines, place.start(ranks=0, values=TINY, environment=changes) as started:
            done = started.wait()
        kept += server.auth.issued()
        found = {form for secret in kept for form in forms(secret)}
        places = places_of(found, place, done, server, given)
        assert not places, (way.__name__, does.__name__, places)
        shown = [line for line in lines.seen if any(form in line for form in found)]
        assert not shown and lines.seen, shown
        assert not [v for v in server.records.violations if "credentials" in v.reason], server.records.violations
        expected = 78 if way is in_the_address else 0
        assert done.code == expected, (way.__name__, does.__name__, done)
        if leads_there and does is well:
            check_complete(server, place.run())
        return f"{way.__name__}, the server {does.__name__}: {len(kept)} secrets, none of them anywhere"


# --- whom a run trusts


def openssl(*words):
    subprocess.run(["openssl", *map(str, words)], capture_output=True, check=True)


class Certificates:
    """Of a CA of the test's own, and what it signs; and one that is signed by itself."""

    def __init__(self, folder):
        self.folder = folder
        for ca in ("ca", "other-ca"):
            self._made(ca, "127.0.0.1", "-x509", "-days", "2", "-out", self.pem(ca))
        signed = [("good", "127.0.0.1", 2), ("expired", "127.0.0.1", -1), ("elsewhere", "127.0.0.2", 2)]
        for name, address, days in signed:
            self._made(name, address, "-out", folder / f"{name}.csr")
            openssl("x509", "-req", "-in", folder / f"{name}.csr", "-CA", self.pem("ca"), "-CAkey", self.key("ca"),
                    "-CAcreateserial", "-copy_extensions", "copy", "-days", days, "-out", self.pem(name))

    def pem(self, name):
        return self.folder / f"{name}.pem"

    def key(self, name):
        return self.folder / f"{name}.key"

    def _made(self, name, address, *more):
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                "-addext", f"subjectAltName=IP:{address}", "-keyout", self.key(name), *more)


TLS = [  # the server's certificate, whom the run is told to trust (None: nobody but the system's), is it trusted
    ("good", "ca", True),
    ("good", None, False),
    ("good", "other-ca", False),
    ("expired", "ca", False),
    ("elsewhere", "ca", False),
    ("other-ca", None, False),  # signed by itself
]


def tls(certificates, name, trusted, good):
    with beside_a_server(tls=(certificates.pem(name), certificates.key(name))) as (place, server, _):
        changes = {"CLEARML_API_HOST_VERIFY_CERT": certificates.pem(trusted) if trusted else None,
                   "CURL_CA_BUNDLE": "", "REQUESTS_CA_BUNDLE": ""}  # which turn off other clients' looking
        done = place.train(ranks=0, values=TINY, environment=changes)
        folder = place.run()
        if good:
            check_complete(server, folder)
        else:
            assert not server.records.requests and json_of(folder)["name"] == "mnist-mnist_pending", folder
            assert "certificate" in done.said.lower(), done.said
            place.sync(folder, code=69, environment=changes)
        return f"certificate {name}, trusting {trusted}: " + ("trusted" if good else "refused, pending, and said why")


def down_to_http(certificates):
    """A host that speaks https sends on to one that does not."""
    with beside_a_server(tls=(certificates.pem("good"), certificates.key("good"))) as (place, server, _):
        server.faults.add("redirect", location=server.addresses["other"])
        changes = {"CLEARML_API_HOST_VERIFY_CERT": certificates.pem("ca")}
        place.train(ranks=0, values=TINY, environment=changes)
        assert server.records.requests and {request.host for request in server.records.requests} == {"api"}
        assert json_of(place.run())["name"] == "mnist-mnist_pending" and not server.records.violations
        return "sent on from https to http: not followed"


def main():
    with tempfile.TemporaryDirectory() as folder:
        jobs = [(no_canary, way, well) for way in WAYS]
        jobs += [(no_canary, by_variables, does) for does in SERVERS] + [(no_canary, by_token, echoes)]
        if shutil.which("openssl"):
            certificates = Certificates(pathlib.Path(folder))
            jobs += [(tls, certificates, *case) for case in TLS] + [(down_to_http, certificates)]
        do_all(jobs, AT_ONCE)


if __name__ == "__main__":
    main()
