"""A chat-completions endpoint on this machine that answers by script."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def verdict(value, reason="because"):
    """An answer of the judge, as the endpoint wraps it."""
    return completion(json.dumps({"verdict": value, "reason": reason}))


def completion(content):
    return json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]}).encode()


class Server(ThreadingHTTPServer):
    """
    Answers the requests in order with `script`, then for ever with its last entry: bytes, `(status, headers, bytes)`, or a
    function of the request's body that returns either. Keeps what was asked, and how many requests ran at once.
    """

    daemon_threads = True

    def __init__(self, script, delay=0.0):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.delay = list(script), delay
        self.requests, self.running, self.most, self.lock = [], 0, 0, threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.running += 1
            server.most = max(server.most, server.running)
            step = server.script[min(len(server.requests), len(server.script) - 1)]
            server.requests.append(
                {"path": self.path, "headers": dict(self.headers), "time": time.monotonic(), **body}
            )
        time.sleep(server.delay)
        answer = step(body) if callable(step) else step
        status, headers, content = answer if isinstance(answer, tuple) else (200, {}, answer)
        with server.lock:
            server.running -= 1
        try:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            pass  # a client that stopped waiting

    def log_message(self, *args):
        """Quiet."""


@contextmanager
def serve(*script, delay=0.0):
    server = Server(script, delay)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
