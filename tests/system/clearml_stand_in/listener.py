"""Ports that close and open again, with what is said over them: HTTP/1.1 with keep-alive, also over TLS."""

import http.server
import itertools
import socket
import threading

CHUNKED = "chunked"


class _Handler(http.server.BaseHTTPRequestHandler):
    """Reads a request whole, hands it to the listener's answer function, and sends what that returns."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "stand-in", ""
    disable_nagle_algorithm = True
    numbers = itertools.count()

    def setup(self):
        super().setup()
        if self.server.tls:
            self.request.do_handshake()
        self.connection_number = next(self.numbers)

    def _chunks(self):
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers

    def _body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == CHUNKED:
            return b"".join(self._chunks())
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _serve(self):
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.answer(self.server.host_name, self.command, self.path, headers, self._body(),
                                   self.connection_number)
        if reply is None:
            return self._drop()
        answer, cut = reply
        self.send_response(answer.status)
        for name, value in {"Content-Type": answer.content_type, "Content-Length": len(answer.body),
                            **answer.headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[:len(answer.body) // 2] if cut else answer.body)
        if cut:
            self._drop()

    def _drop(self):
        self.wfile.flush()
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_PATCH = do_OPTIONS = _serve

    def log_message(self, *_):
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    tls = None

    def __init__(self, *args):
        self.open_sockets = set()
        super().__init__(*args)

    def get_request(self):
        request, address = super().get_request()
        if self.tls:  # the handshake is left to the connection's own thread
            request = self.tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        return request, address

    def process_request(self, request, client_address):
        self.open_sockets.add(request)
        super().process_request(request, client_address)

    def finish_request(self, request, client_address):
        try:
            super().finish_request(request, client_address)
        except OSError:
            pass  # the client went away, does not trust us, or was cut off

    def shutdown_request(self, request):
        self.open_sockets.discard(request)
        super().shutdown_request(request)

    def sever(self):
        """Ends the connections there are."""
        for request in list(self.open_sockets):
            try:
                socket.socket.shutdown(request, socket.SHUT_RDWR)  # under TLS, too
            except OSError:
                pass


class Listener:
    """One port of 127.0.0.1, its number from the kernel unless given, kept while it is closed.

    answer(host_name, method, path, headers, body, connection) is called on a thread of the connection's own; it
    returns (Answer, whether to break off in the middle of it), or None for a connection that is closed unanswered.
    """

    def __init__(self, host_name, answer, tls=None, port=0):
        self._host_name, self._answer, self._tls = host_name, answer, tls
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind(("127.0.0.1", port))
        self.port = self._holder.getsockname()[1]
        self._server = self._thread = None
        self.open()

    @property
    def url(self):
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def open(self):
        if self._server:
            return
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.host_name, self._server.answer, self._server.tls = self._host_name, self._answer, self._tls
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self):
        """Refuses new connections and ends those there are, until it is opened again."""
        if not self._server:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.socket.close()
        self._server.sever()
        self._server = None

    def end(self):
        self.close()
        self._holder.close()
