"""A stand-in of the hub on this machine: models, commits and files, as `huggingface_hub` asks for them."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_test"  # noqa: S105


class Hub(ThreadingHTTPServer):
    """The server; `models` holds name to revision to file to content, the last revision under main."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def running_hub() -> Iterator[Hub]:
    """The hub in a thread of its own."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, value: Any = None, body: bytes = b"", **headers: str) -> None:
        content = body if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, text in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().strip() or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def do_POST(self) -> None:
        path, body = self.path.partition("?")[0], self._body()
        self.server.asked.append(f"POST {path}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            given = json.loads(body)
            name = f"{given['organization']}/{given['name']}" if given.get("organization") else given["name"]
            self.server.models.setdefault(name, {"main": {}})
            self.server.private.setdefault(name, given.get("private") is True or given.get("visibility") == "private")
            self._answer(200, {"url": f"{self.server.url}/{name}", "name": name, "id": name})
        elif path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/api/models/(.+)/preupload/[^/]+", path):
            asked = json.loads(body)["files"]
            self._answer(
                200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]}
            )
        elif match := re.fullmatch(r"/api/models/(.+)/commit/[^/]+", path):
            self._commit(match[1], [json.loads(line) for line in body.splitlines() if line.strip()])
        else:
            self._answer(404, {"error": "not found"})

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        files = dict(self.server.models[name]["main"])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                files.pop(value["path"], None)
        oid = hashlib.sha1(json.dumps({path: len(data) for path, data in sorted(files.items())}).encode()).hexdigest()  # noqa: S324
        self.server.models[name] |= {oid: files, "main": files}
        url = f"{self.server.url}/{name}/commit/{oid}"
        self._answer(200, {"commitUrl": url, "commitOid": oid, "success": True})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+).*)?", path)
        name = match[1] if match else "/".join(path.split("/")[1:3])
        revisions = self.server.models.get(name)
        if revisions is None:
            self._answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return
        if match and match[2] == "tree":
            files = revisions[match[3]]
            listed = [
                {"type": "file", "path": file, "size": len(data), "oid": _oid(data)} for file, data in files.items()
            ]
            self._answer(200, listed)
        elif match:
            files = revisions[match[3] or "main"]
            sha = next((oid for oid, held in revisions.items() if held is files and oid != "main"), "0" * 40)
            siblings = [{"rfilename": file} for file in files]
            self._answer(200, {"id": name, "sha": sha, "siblings": siblings, "private": False, "tags": []})
        elif found := re.fullmatch(r"/[^/]+/[^/]+/resolve/([^/]+)/(.+)", path):
            data = revisions[found[1]].get(found[2])
            if data is None:
                self._answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
            else:
                self._answer(200, body=data, ETag=f'"{_oid(data)}"', X_Repo_Commit=found[1])
        else:
            self._answer(404, {"error": "not found"})


def _oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # noqa: S324
