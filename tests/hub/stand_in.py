"""A stand-in for the part of the Hub's HTTP API that a push uses. It keeps what was committed, file by file.

What its `fails` matches is answered with the status 500.
"""

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HubStandIn:
    """Serves on a free local port while its `with` block runs."""

    def __init__(self):
        self.repos: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self.messages: list[str] = []
        self.fails: str | None = None
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments):
                """Quiet."""

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.reply(*stand_in.post(self.path.split("?")[0], body))

            def do_GET(self):
                self.reply(*stand_in.get(self.path.split("?")[0]))

            def reply(self, status, payload):
                data = json.dumps(payload).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.server.server_close()

    def get(self, path):
        self.requests.append(f"GET {path}")
        if self.fails and re.search(self.fails, path):
            return 500, {"error": "the stand-in fails"}
        if path == "/api/whoami-v2":
            return 200, {"name": "tester", "type": "user", "orgs": []}
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/[^/]+)?", path):
            files = [{"rfilename": name} for name in self.repos.get(match[1], {})]
            return 200, {"id": match[1], "sha": "0" * 40, "siblings": files, "tags": [], "private": False}
        return 404, {"error": f"not part of the stand-in: {path}"}

    def post(self, path, body):
        self.requests.append(f"POST {path}")
        if self.fails and re.search(self.fails, path):
            return 500, {"error": "the stand-in fails"}
        if path == "/api/repos/create":
            request = json.loads(body)
            name = f"{request.get('organization') or 'tester'}/{request['name']}"
            self.repos.setdefault(name, {})
            return 200, {"url": f"{self.url}/{name}", "name": name, "id": "1"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/[^/]+", path):
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return 200, {"files": files}
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/[^/]+", path):
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.repos[match[1]][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                elif entry["key"] == "header":
                    self.messages.append(entry["value"]["summary"])
            return 200, {"success": True, "commitOid": "0" * 40, "commitUrl": f"{self.url}/{match[1]}/commit/0"}
        return 404, {"error": f"not part of the stand-in: {path}"}
