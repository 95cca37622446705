"""Switches on each fault of the stand-in for a ClearML server, sees what a client meets, and switches it off.

    clearml_faults_test.py BUILD_FOLDER    the folder is not looked at: nothing of lab is run
"""

import base64
import contextlib
import http.client
import json
import pathlib
import socket
import ssl
import subprocess
import sys
import tempfile
import time

from clearml_requests import SECONDS, Client, client_of, raises, running
from clearml_server import ClearmlServer
from clearml_stand_in.faults import OPTIONS


def ends(connection):
    """Whether the other side has ended it, with or without TLS's own words of farewell."""
    try:
        return connection.recv(1) == b""
    except (ssl.SSLError, ConnectionResetError):
        return True


def names(server):
    return [task["name"] for task in server.store.tasks.values()]


def check_answers():
    """Faults that answer something else."""
    with running() as (server, client):
        fault = server.faults.add("answer", where="tasks[.]ping", code=503, times=2, after=1)
        task = client.task()
        assert [client.call("tasks.ping", {"task": task})[0] for _ in range(5)] == [200, 503, 503, 200, 200]
        assert fault.hits == 2 and [request.fault for request in server.records.of("tasks.ping")][1] == "answer"
        with_text = server.faults.add("answer", where="tasks.*", code=502, body="<html>", headers={"Retry-After": "1"})
        status, headers, body = client.send("api", "POST", "/v2.23/tasks.get_all", b"{}")
        assert (status, headers["Retry-After"], body) == (502, "1", b"<html>")
        server.faults.remove(with_text)
        garbled = server.faults.add("garble", times=1)
        raises(ValueError, lambda: client.call("tasks.create", {"name": "garbled", "type": "training"}))
        assert garbled.hits == 1 and "garbled" in names(server)
        server.faults.add("answer", where="files[.]upload", code=500, times=1)
        assert client.upload("/x/y", b"z")[0] == 500 and not server.store.file("/x/y").exists()
        server.faults.add("answer", where="files[.]upload", code=200, body="[]", times=1)
        assert client.upload("/x/y", b"z")[::2] == (200, b"[]") and not server.store.file("/x/y").exists()
        server.faults.add("redirect", location="http://127.0.0.1:9", where="files[.].*", code=302)
        status, headers, _ = client.send("files", "GET", "/x/y")
        assert (status, headers["Location"]) == (302, "http://127.0.0.1:9/x/y")
        server.faults.clear()
        assert client.upload("/x/y", b"z")[0] == 200 and client.send("files", "GET", "/x/y")[2] == b"z"
        raises(ValueError, lambda: server.faults.add("anser"))
        raises(ValueError, lambda: server.faults.add("drop", code=1))


def check_breaks():
    """Faults of the connection."""
    create = lambda name: client.call("tasks.create", {"name": name, "type": "training"})  # noqa: E731
    with running() as (server, client):
        server.faults.add("drop", times=1)
        raises(http.client.RemoteDisconnected, lambda: create("dropped before"))
        server.faults.add("drop_after", times=1)
        raises(http.client.RemoteDisconnected, lambda: create("dropped after"))
        server.faults.add("truncate", times=1)
        raises(http.client.IncompleteRead, lambda: create("cut short"))
        assert names(server) == ["dropped after", "cut short"], names(server)
        server.faults.add("slow", times=1, seconds=0.3)
        start = time.monotonic()
        assert create("slow one")[0] == 200 and time.monotonic() - start >= 0.3
        hanging = server.faults.add("hang")
        raises(TimeoutError, lambda: client.send("api", "POST", "/v2.23/tasks.get_all", b"{}", seconds=0.5))
        server.faults.remove(hanging)
        assert create("after all")[0] == 200
        idle = socket.create_connection(("127.0.0.1", server.listeners["api"].port), timeout=SECONDS)
        create("meanwhile")  # the idle connection has been accepted by now
        server.close_port("api")
        assert ends(idle)  # and those that are open
        idle.close()
        raises(ConnectionRefusedError, lambda: create("refused"))
        server.open_port("api")
        assert create("open again")[0] == 200
        assert not server.records.violations, server.records.violations


def check_tokens():
    with running() as (server, client):
        assert Client(server.addresses, server.auth.key, "wrong").login() == (401, 22)
        assert client_of(server).call("tasks.get_all")[:2] == (401, 20)
        assert client_of(server, token="no-jwt").call("tasks.get_all")[:2] == (401, 21)
        server.auth.revoke()
        assert client.call("tasks.get_all")[:2] == (401, 30)
        assert client.send("files", "GET", "/x")[0] == 401
        server.auth.life = 1
        client.login()
        claims = client.token.split(".")[1]
        assert json.loads(base64.urlsafe_b64decode(claims + "=="))["exp"] <= time.time() + 1
        server.auth.life = -1  # as a second would have to be waited for
        client.login()
        assert client.call("tasks.get_all")[:2] == (401, 30)
        server.auth.life = 3600
        client.login()
        assert client.call("tasks.get_all")[0] == 200


def check_keep_alive():
    with running() as (server, client):
        connection = http.client.HTTPConnection("127.0.0.1", server.listeners["api"].port, timeout=SECONDS)
        headers = {"Authorization": f"Bearer {client.token}", "Content-Type": "application/json"}
        with contextlib.closing(connection):
            for chunked in (False, True, False):
                connection.request("POST", "/v2.23/tasks.get_all", iter([b"{", b"}"]) if chunked else b"{}", headers,
                                   encode_chunked=chunked)
                assert json.loads(connection.getresponse().read())["data"] == {"tasks": []}
        assert len({request.connection for request in server.records.of("tasks.get_all")}) == 1


def check_tls():
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = f"{folder}/certificate.pem", f"{folder}/key.pem"
        words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
        subprocess.run(["openssl", *words.split(), "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                        "-keyout", key, "-out", certificate], check=True, capture_output=True)
        with ClearmlServer(folder, tls=(certificate, key)) as server:
            assert server.addresses["api"].startswith("https://127.0.0.1:")
            raises(ssl.SSLCertVerificationError, client_of(server, context=ssl.create_default_context()).login)
            context = ssl.create_default_context(cafile=certificate)
            client = client_of(server, context=context)
            assert client.login() == (200, 0)
            server.faults.add("redirect", where="files[.].*", location=server.addresses["other"], times=1)
            location = client.send("files", "GET", "/x")[1]["Location"]
            assert location.startswith("http://") and location.endswith("/x"), location
            idle = context.wrap_socket(socket.create_connection(("127.0.0.1", server.listeners["api"].port), SECONDS),
                                       server_hostname="127.0.0.1")
            server.close_port("api")
            assert ends(idle)
            idle.close()


def check_program():
    """As a program, with everything switched by its control port."""
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(__file__).parent / "clearml_server.py"
        process = subprocess.Popen([sys.executable, program, "--folder", folder, "--port", "0"], stdout=subprocess.PIPE)
        try:
            addresses = json.loads(process.stdout.readline())
            client = Client(addresses, addresses["environment"]["CLEARML_API_ACCESS_KEY"],
                            addresses["environment"]["CLEARML_API_SECRET_KEY"])

            def control(command, **arguments):
                status, _, body = client.send("control", "POST", f"/{command}", json.dumps(arguments).encode())
                return status, json.loads(body)

            client.login()
            _, fault = control("add_fault", kind="answer", where="tasks[.].*", code=500)
            assert client.call("tasks.get_all")[0] == 500
            assert [(found["number"], found["hits"]) for found in control("faults")[1]] == [(fault, 1)]
            control("remove_fault", fault=fault)
            task = client.task("by program")
            assert control("tables")[1]["tasks"][task]["name"] == "by program"
            control("close_port", host="api")
            raises(ConnectionRefusedError, lambda: client.call("tasks.get_all"))
            control("open_port", host="api")
            client.call("tasks.get_all", {"nmae": 1})
            assert control("violations")[1][0]["reason"] == "unknown property nmae"
            bodies = [request["json"] for request in control("requests", endpoint="tasks.get_all")[1]]
            assert bodies == [None, {"nmae": 1}], bodies
            control("set_token_life", seconds=-1)
            client.login()
            assert client.call("tasks.get_all")[:2] == (401, 30)
            control("set_token_life", seconds=60)
            client.login()
            control("revoke_tokens")
            assert client.call("tasks.get_all")[:2] == (401, 30)
            assert control("clear_faults") == (200, None) and control("no_such")[0] == 400
        finally:
            process.terminate()
            assert process.wait(SECONDS) == 0
            process.stdout.close()


def main():
    for check in (check_answers, check_breaks, check_tokens, check_keep_alive, check_tls, check_program):
        check()
    print(f"{len(OPTIONS)} kinds of faults, closed ports and refused tokens are met and leave no trace")


main()
