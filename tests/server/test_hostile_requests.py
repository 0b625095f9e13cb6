"""Hostile requests: every field of every route that the description of the API names, and requests at random.

No answer is a fault of the server or shows a path of it or the content of a file, and no file is written.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.helpers.amounts import fast_and_long
from tests.helpers.service import JSON_TYPE, Client, Reply, serving
from tests.reliability.report import report

PATHS = ("../../etc/passwd", "/etc/passwd", "file:../../../etc/passwd", "file:///etc/passwd", "data:;base64,Li4=")
VALUES: tuple[Any, ...] = (
    *PATHS,
    "http://127.0.0.1:1/x",
    "\0",
    "\ud800",
    "' OR 1=1 --",
    "A" * 5000,
    "",
    -1,
    2**70,
    1e308,
)
NESTED: tuple[Any, ...] = (
    None,
    True,
    [],
    {},
    ["../../etc/passwd"],
    [[["x"]]],
    {"must": "../../etc/passwd"},
    [1, "a", None],
)
BASES: dict[str, dict[str, Any]] = {  # route -> a valid body
    "/search": {"id": 1},
    "/predict": {"ids": [1]},
    "/labels": {"edits": [{"id": 1, "column": "site", "value": "A"}]},
    "/labels/undo": {},
    "/heads": {"label": "label", "kind": "prototype"},
    "/embeddings": {"model": "made", "input": "UklGRg=="},
}


@pytest.fixture(scope="module")
def writable(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server that allows labels, of a copy of the collection."""
    folder = tmp_path_factory.mktemp("served") / "made"
    shutil.copytree(made, folder)
    with serving(folder, allow_labels=True) as running:
        yield running


def operations(client: Client) -> list[tuple[str, str, dict[str, Any]]]:
    """Return method, route and description of everything that the service offers."""
    paths = client.get("/openapi.json").json["paths"]
    return [
        (method.upper(), path, facts)
        for path, methods in paths.items()
        for method, facts in methods.items()
        if not path.endswith("/events")  # its answer has no end
    ]


def requests_with(value: Any, facts: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Yield path and body of requests with a value in one field each, and valid values in the others."""
    names = {one["name"] for one in facts.get("parameters", []) if one["in"] == "path"}
    plain = fill(path)
    base = next((body for end, body in BASES.items() if path.endswith(end)), None)
    text = quote(value if isinstance(value, str) else json.dumps(value), safe="", errors="surrogatepass")
    for name in names:
        yield fill(path.replace(f"{{{name}}}", text)), base
    for one in facts.get("parameters", []):
        if one["in"] == "query":
            yield f"{plain}?{one['name']}={text}", base
    schema = facts.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    for name in schema.get("properties", {}):
        yield plain, {**(base or {}), name: value}
        yield plain, {name: value}
    if base is not None:
        yield plain, value
        if "edits" in base:
            for name in base["edits"][0]:
                yield plain, {"edits": [{**base["edits"][0], name: value}]}


def fill(path: str) -> str:
    """Return a path with a value for each parameter."""
    return re.sub(r"\{\w+\}", "1", path.replace("{name}", "made").replace("{column}", "label"))


def assert_harmless(reply: Reply, request: object, folder: Path) -> None:
    """Check that an answer is no fault of the server, and shows nothing of it."""
    assert reply.status < 500 or (reply.status == 503 and reply.code in ("model_unavailable", "deadline")), request
    for secret in (b"root:", b"Traceback", os.fsencode(folder.parent), b"/site-packages/"):
        assert secret not in reply.body, request
    if reply.status >= 400:
        assert reply.json["error"].keys() >= {"code", "message", "hint"}


@fast_and_long("step", fast=100, long=10)
def test_hostile_value_in_any_field_is_refused_or_harmless(writable: Client, step: int) -> None:
    folder = writable.service.get("made").folder
    before, begun = set(folder.parent.iterdir()), time.monotonic()
    made_up = sent = 0
    for method, path, facts in operations(writable):
        for value in (*VALUES, *NESTED):
            for target, body in requests_with(value, facts, path):
                made_up += 1
                if made_up % step and value != PATHS[0]:
                    continue
                sent += 1
                data = None if method == "GET" else json.dumps(body)
                reply = writable.send(method, target, data, {} if data is None else JSON_TYPE)
                assert_harmless(reply, (method, target[:200], str(body)[:200]), folder)
    assert made_up > 1500
    report("service: requests with a hostile value in one field", sent, 0, begun)
    assert set(folder.parent.iterdir()) == before
    assert writable.post("/v1/collections/made/search", {"id": 1}).status == 200


@pytest.mark.long
@pytest.mark.skipif(
    importlib.util.find_spec("schemathesis") is None, reason="needs schemathesis: pip install schemathesis"
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_requests_get_answers_as_described(writable: Client, seed: int) -> None:
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    url = f"http://127.0.0.1:{writable.port}/openapi.json"
    command = [sys.executable, "-m", "schemathesis.cli", "run", url, "--seed", str(seed), "--checks", checks]
    command += ["--exclude-path-regex", "/events$"]  # its answer has no end
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([*command, "--max-examples", "25"], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout[-5000:]
