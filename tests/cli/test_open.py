"""The command `open`: its token is valid once, and nobody gets in without it."""

import json
import re
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from tests.helpers.commands import COMMAND


def test_page_is_shown_with_a_token_that_is_valid_once(made: Path) -> None:
    command = [*COMMAND, "open", str(made), "--no-browser"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            match = re.search(r"(http://127\.0\.0\.1:\d+)/#token=(\S+)$", line)
            assert match, line
            url, body = match[1], json.dumps({"token": match[2]}).encode()

            def ask(path: str, **headers: str) -> tuple[int, str]:
                request = urllib.request.Request(f"{url}{path}", headers=headers)
                if path == "/v1/session" and not headers.get("Cookie"):
                    request.data, request.headers["Content-type"] = body, "application/json"
                try:
                    with urllib.request.urlopen(request, timeout=60) as answer:
                        cookie = answer.headers.get("Set-Cookie", "").partition(";")[0]
                        return answer.status, cookie or answer.read().decode()
                except urllib.error.HTTPError as error:
                    return error.code, ""

            assert ask("/")[0] == 200
            assert ask("/v1/collections")[0] == 401
            assert ask("/v1/collections", Authorization=f"Bearer {match[2]}")[0] == 401
            status, cookie = ask("/v1/session")
            assert (status, cookie.startswith("embedx-")) == (204, True)
            assert ask("/v1/collections", Cookie=cookie)[0] == 200
            assert json.loads(ask("/v1/session", Cookie=cookie)[1])["may_label"] is True
            assert ask("/v1/session")[0] == 401
            process.send_signal(signal.SIGINT)
            rest = process.stderr.read()
            assert process.wait(60) == 128 + signal.SIGINT
            assert match[2] not in rest
        finally:
            process.kill()
