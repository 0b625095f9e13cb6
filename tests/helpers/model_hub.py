"""A stand-in for the model hub on 127.0.0.1, with the few routes that uploading and downloading a folder need."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Files = dict[str, bytes]


class ModelHub(ThreadingHTTPServer):
    """Repositories in memory: "datasets/user/repo" or "models/user/repo" -> file -> content, and what was asked.

    Every state that was asked for is kept as a commit.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Files] = {}
        self.commits: dict[tuple[str, str], Files] = {}
        self.created: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def files_at(self, repository: str, revision: str | None) -> tuple[str, Files]:
        """Return the commit of a revision, and its files; every branch is the newest state."""
        commit = self.commit_of(repository)
        found = revision if (repository, revision) in self.commits else commit
        return str(found), self.commits[repository, str(found)]

    def commit_of(self, repository: str) -> str:
        files = self.repositories[repository]
        content = b"".join(name.encode() + content for name, content in sorted(files.items()))
        commit = hashlib.sha1(content).hexdigest()
        self.commits.setdefault((repository, commit), dict(files))
        return commit


class Handler(BaseHTTPRequestHandler):
    """The routes."""

    server: ModelHub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            fields = json.loads(body)
            kind = fields.get("type") or "model"
            name = "/".join(part for part in (fields.get("organization"), fields["name"]) if part)
            self.server.created.append(fields)
            self.server.repositories.setdefault(f"{kind}s/{name}", {})
            self.answer({"url": f"{self.server.url}/{kind}s/{name}", "id": name, "name": name})
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif re.fullmatch(r"/api/(.+)/preupload/main", path):
            files = json.loads(body)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            self.answer({"files": modes})
        elif match := re.fullmatch(r"/api/(.+)/commit/main", path):
            files_now = self.server.repositories[match[1]]
            for line in body.decode().splitlines():
                step = json.loads(line)
                if step["key"] == "file":
                    files_now[step["value"]["path"]] = base64.b64decode(step["value"]["content"])
                elif step["key"] == "deletedFile":
                    del files_now[step["value"]["path"]]
            commit = self.server.commit_of(match[1])
            self.answer({"commitUrl": f"{self.server.url}/{match[1]}/commit/{commit}", "commitOid": commit})
        else:
            self.answer({"error": f"no route {path}"}, 404)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if match := re.fullmatch(r"/api/(\w+/[^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            if match[1] not in self.server.repositories:
                self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
                return
            commit, files = self.server.files_at(match[1], match[2])
            names = [{"rfilename": name} for name in files]
            name = match[1].partition("/")[2]
            self.answer({"id": name, "sha": commit, "siblings": names, "private": True})
        elif match := re.fullmatch(r"/api/(\w+/[^/]+/[^/]+)/tree/([^/]+)", path):
            _, files = self.server.files_at(match[1], match[2])
            oids = {name: hashlib.sha1(content).hexdigest() for name, content in files.items()}
            self.answer([{"type": "file", "path": n, "size": len(files[n]), "oid": oid} for n, oid in oids.items()])
        else:
            self.send_file(path)

    do_HEAD = do_GET  # noqa: N815 -- the name that http.server looks for

    def send_file(self, path: str) -> None:
        match = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        repository = f"{match[1] or 'models/'}{match[2]}" if match else ""
        is_known = match is not None and repository in self.server.repositories
        commit, files = self.server.files_at(repository, match[3]) if match and is_known else ("", {})
        content = files.get(match[4] if match else "")
        if content is None:
            self.answer({"error": "not found"}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": "0" * 40})
            return
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        self.answer(content, 200, headers)

    def answer(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@contextmanager
def model_hub() -> Iterator[ModelHub]:
    """Lend a running hub."""
    with ModelHub() as hub:
        thread = threading.Thread(target=hub.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
