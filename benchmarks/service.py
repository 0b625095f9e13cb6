"""Measure `embedx serve`, and write the part of BENCHMARKS.md. Takes some 6 minutes, and 5 more for a new folder.

The load comes from wrk (https://github.com/wg/wrk; `apt-get install wrk`), which runs on the same cores. With `--rivals
PYTHON`, Chroma and the local mode of qdrant-client are measured too, behind the same FastAPI. PYTHON is a Python in
which they are installed; embedx does not depend on them. `--folder` keeps what is built: the collection with its index,
and the data of the other engines.
"""

import argparse
import base64
import contextlib
import json
import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from page import ROOT, commit, write_part
from search import DIM, clustered, make_collection
from service_memory import memory_of, memory_over, processor_s

import embedx
from embedx.bench.speed.roofline import name_device

SHARED = Path(os.environ.get("EMBEDX_SHARED", ROOT.parent / "shared"))
KINDS = {"ids": "by row", "queries": "by vector (base64)"}
RATE_SHARE = 0.7  # of the capacity, for the latencies
CONNECTIONS = 32
CLIENTS = 16  # connections that send sounds
CLIP_S, CLIP_RATE = 5, 16_000
START_TURNS = 3
FEW_CLIPS = 8  # the time of `embedx extract` for so few clips is taken as its start-up time


@dataclass(frozen=True)
class Load:
    """What wrk has measured."""

    per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


@dataclass(frozen=True)
class Scale:
    """How much is measured: everything, or little of it to try the program."""

    rows: int
    seconds: int
    clips: int
    turns: int
    requests: int


FULL, SMALL = Scale(100_000, 6, 400, 3, 20_000), Scale(5_000, 2, 24, 1, 4_000)


class Targets:
    """What was asked for, what was measured, and whether it holds."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, target: str, measured: str, holds: bool) -> None:
        """Add a target."""
        self.lines.append(f"| {target} | {measured} | {'yes' if holds else '**no**'} |")

    def table(self) -> list[str]:
        """Return the lines of a table."""
        return ["| target | measured | holds |", "|---|---|---|", *self.lines]


def say(text: str) -> None:
    """Print what is done now."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


@contextlib.contextmanager
def running(command: list[str], url: str | None = None) -> Iterator[tuple[str, subprocess.Popen[bytes], float]]:
    """Run a server while the context lasts; yield its address, its process, and the seconds until it has answered."""
    with tempfile.TemporaryFile() as log:
        begun = time.perf_counter()
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=environment)
        try:
            while url is None or not is_up(url):
                text = os.pread(log.fileno(), 10_000, 0).decode()
                if process.poll() is not None:
                    raise SystemExit(f"{' '.join(command)} has ended:\n{text}")
                if url is None and (match := re.search(r" at (http://\S+?)\. ", text)):
                    url = match[1]
                time.sleep(0.01)
            yield url, process, time.perf_counter() - begun
        finally:
            process.terminate()
            process.wait()


def is_up(url: str) -> bool:
    """Tell whether a server answers, with whatever status."""
    try:
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 -- our own server
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def post(url: str, body: Mapping[str, Any]) -> Any:
    """Send JSON, and return the answer."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310 -- our own server
        return json.loads(answer.read())


def wrk(url: str, bodies: Path, seconds: int, connections: int = CONNECTIONS, think_ms: float = 0.0) -> Load:
    """Send requests from some connections; each waits for its answer, and then on average for `think_ms`."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--timeout", "60"]
    command += ["-s", str(ROOT / "benchmarks/service.lua"), url, "--", str(bodies), f"{think_ms}"]
    environment = os.environ | {"THINK": f"{think_ms}"}
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    result = json.loads(output.partition("RESULT ")[2])
    return Load(
        max(1, result["requests"] - result["failed"]) / result["seconds"],
        result["p50_ms"],
        result["p99_ms"],
        result["failed"],
    )


def capacity_and_latency(url: str, bodies: Path, seconds: int) -> tuple[Load, Load]:
    """Return the load at capacity, and at 0.7 of it."""
    wrk(url, bodies, 2)
    full = wrk(url, bodies, seconds)
    think_ms = 1000 * CONNECTIONS / (RATE_SHARE * full.per_s)  # less the latency, which is corrected once
    part = wrk(url, bodies, 2, think_ms=think_ms)
    part = wrk(url, bodies, seconds, think_ms=max(1.0, think_ms - part.p50_ms))
    return full, part


def prepare(folder: Path, scale: Scale) -> None:
    """Build the collection with its index and the vectors for other engines, unless they are there."""
    if not (folder / "rows/index/L0.mean.cosine.json").exists():
        say(f"storing {scale.rows} x {DIM}, and building an HNSW index")
        shutil.rmtree(folder / "rows", ignore_errors=True)
        make_collection(folder / "rows", scale.rows)
        with embedx.open(folder / "rows") as collection:
            collection.build_index(kind="hnsw", recall=0.99)
        np.save(folder / "vectors.npy", np.concatenate(list(clustered(scale.rows, 1))))
    random = np.random.default_rng(3)
    queries = next(clustered(2000, 2))
    with open(folder / "ids.jsonl", "w") as file:
        file.writelines(f'{{"id": {number}}}\n' for number in random.integers(1, scale.rows, 2000))
    with open(folder / "queries.jsonl", "w") as file:
        file.writelines(f'{{"vector": "{base64.b64encode(query.tobytes()).decode()}"}}\n' for query in queries)


def serve_command(collection: Path) -> list[str]:
    """Return the command of the service at a free port."""
    return [sys.executable, "-m", "embedx", "serve", str(collection), "--port", "0", "--per-client", "64"]


def measured_recall(url: str, folder: Path) -> float:
    """Return the share of the true 10 nearest rows that the service finds for 200 vectors."""
    shares = []
    for text in (folder / "queries.jsonl").read_text().splitlines()[:200]:
        found, true = (
            {hit["id"] for hit in post(url, json.loads(text) | more)["hits"]} for more in ({}, {"exact": True})
        )
        shares.append(len(found & true) / len(true))
    return float(np.mean(shares))


def search_part(folder: Path, scale: Scale, rivals: str | None, targets: Targets) -> list[str]:
    """Return the tables of the start and of searches."""
    starts = []
    for _ in range(START_TURNS):
        with running(serve_command(folder / "rows")) as (_, process, start_s):
            starts.append(start_s)
            idle_mb = memory_of(process.pid)
    rates: dict[str, tuple[float, float]] = {}
    say("searches by row and by vector")
    with running(serve_command(folder / "rows")) as (url, process, _):
        url += "/v1/collections/rows/search"
        begun = time.perf_counter()
        post(url, {"id": 1})
        first_s = time.perf_counter() - begun
        recall = measured_recall(url, folder)
        loads = {
            kind: capacity_and_latency(url, folder / f"{kind}.jsonl", scale.seconds) for kind in ("ids", "queries")
        }
        rates["embedx serve"] = loads["ids"][0].per_s, loads["queries"][0].per_s
        loaded_mb = memory_of(process.pid)
    with embedx.open(folder / "rows") as collection:
        facts = collection.indexes.describe_one("L0.mean", "cosine")
    start_s = float(np.median(starts))
    targets.add("start below 3 s, without a model", f"{start_s:.2f} s", start_s < 3)
    targets.add("recall@10 of 0.99", f"{recall:.4f}", recall >= 0.99)
    for kind, name in KINDS.items():
        full, part = loads[kind]
        targets.add(f"search {name}: 1500 requests/s", f"{full.per_s:.0f}", full.per_s >= 1500)
        targets.add(f"search {name}: p99 below 20 ms at 0.7 of it", f"{part.p99_ms:.1f} ms", part.p99_ms < 20)
    lines = [
        f"The process answers {start_s:.2f} s after its start (median of {START_TURNS}) "
        f"and has {idle_mb:.0f} MB; the first search takes {first_s:.2f} s; after all searches it has "
        f"{loaded_mb:.0f} MB.\n",
        f"The index is HNSW with a measured recall@10 of {facts['recall_at_10']:.4f}; of 200 other vectors the service "
        f"found {recall:.4f}.\n",
        *load_table(scale, loads),
        "",
    ]
    for engine in ("chroma", "qdrant") if rivals else ():
        say(f"{engine} behind FastAPI")
        rates[engine] = rival_rates(engine, folder, scale, str(rivals))
    lines += ["| behind FastAPI, requests/s | by row | by vector | embedx is faster by |", "|---|---|---|---|"]
    own = rates["embedx serve"]
    for name, (by_row, by_vector) in rates.items():
        factors = "" if name == "embedx serve" else f"{own[0] / by_row:.1f} x, {own[1] / by_vector:.1f} x"
        if factors:
            targets.add(f"3 x {name}, by row and by vector", factors, min(own[0] / by_row, own[1] / by_vector) >= 3)
        lines.append(f"| {name} | {by_row:.0f} | {by_vector:.0f} | {factors} |")
    return lines


def load_table(scale: Scale, loads: Mapping[str, tuple[Load, Load]]) -> Iterator[str]:
    """Yield the table of the load at capacity and at 0.7 of it."""
    yield (
        f"| {scale.rows} x {DIM}, k = 10 | requests/s | p50, ms | p99, ms | at 0.7: requests/s | p50, ms | p99, ms "
        "| failed |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for kind, name in KINDS.items():
        full, part = loads[kind]
        figures = f"{full.per_s:.0f} | {full.p50_ms:.1f} | {full.p99_ms:.1f} | {part.per_s:.0f} | {part.p50_ms:.1f}"
        yield f"| {name} | {figures} | {part.p99_ms:.1f} | {full.failed + part.failed} |"


def rival_rates(engine: str, folder: Path, scale: Scale, python: str) -> tuple[float, float]:
    """Return the requests per second of another engine, by row and by vector."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [python, str(ROOT / "benchmarks/service_rivals.py"), engine, str(folder), str(port)]
    with running(command, f"http://127.0.0.1:{port}/") as (url, *_):
        post(f"{url}search", {"id": 1})
        by_row, by_vector = (
            wrk(f"{url}search", folder / f"{kind}.jsonl", scale.seconds, connections=8) for kind in ("ids", "queries")
        )
    return by_row.per_s, by_vector.per_s


def make_clips(folder: Path, count: int) -> None:
    """Write noise that changes its loudness, as WAV files and as bodies of requests."""
    folder.mkdir()
    random = np.random.default_rng(4)
    with open(folder.parent / "clips.jsonl", "w") as file:
        for number in range(count):
            samples = random.standard_normal(CLIP_S * CLIP_RATE) * np.linspace(0.01, 0.3, CLIP_S * CLIP_RATE)
            path = folder / f"{number:04d}.wav"
            soundfile.write(path, samples.clip(-1, 1), CLIP_RATE, subtype="PCM_16")
            audio = base64.b64encode(path.read_bytes()).decode()
            file.write(f'{{"model": "sounds", "input": "{audio}", "encoding_format": "base64"}}\n')


def extract_s(source: Path, out: Path, model: str) -> tuple[float, float]:
    """Return the seconds that `embedx extract` takes, and those of the processor."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "embedx", "extract", str(source), "-o", str(out), "--model", model]
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begun, used_s


def warm_up(url: str, bodies: Path) -> None:
    """Send some requests and wait for all answers: wrk drops its last ones, and their decoders must be restarted."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda body: post(url, json.loads(body)), bodies.read_text().splitlines()[: 4 * CLIENTS]))


def embedding_part(scale: Scale, targets: Targets) -> list[str]:
    """Return the table of embedding with YAMNet: from files, and by requests, in alternating turns; and the memory."""
    weights = SHARED / "weights/yamnet"
    if not weights.exists():
        return [f"Embedding was not measured: the folder {weights.name} with the weights of YAMNet does not exist."]
    model, ratios, speeds = f"yamnet:{weights}", [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_clips(folder / "few", FEW_CLIPS)
        make_clips(folder / "clips", scale.clips)
        for turn in range(scale.turns):
            say(f"embedding, turn {turn + 1} of {scale.turns}")
            start_s, start_used_s = extract_s(folder / "few", folder / "sounds", model)
            whole_s, whole_used_s = extract_s(folder / "clips", folder / "sounds", model)
            count = scale.clips - FEW_CLIPS
            from_files = count / max(0.01, whole_s - start_s)
            with running(serve_command(folder / "sounds")) as (url, process, _):
                warm_up(f"{url}/v1/embeddings", folder / "clips.jsonl")
                before_s = processor_s(process.pid)
                served = wrk(f"{url}/v1/embeddings", folder / "clips.jsonl", scale.seconds, CLIENTS)
                used_s = processor_s(process.pid) - before_s
                embed_mb = memory_of(process.pid)
            ratios.append(served.per_s / from_files)
            used_ms = 1000 * (whole_used_s - start_used_s) / count, 1000 * used_s / (served.per_s * scale.seconds)
            speeds.append((from_files, served.per_s, *used_ms, served.p99_ms, served.failed, embed_mb))
        memory_lines = memory_part(folder, scale, targets)
    from_files, per_s, files_ms, served_ms, p99_ms, failed, embed_mb = np.median(speeds, axis=0)
    ratio = float(np.median(ratios))
    targets.add("YAMNet: 0.8 of the clips/s of `embedx extract`", f"{ratio:.2f}", ratio >= 0.8)
    return [
        f"| YAMNet, clips of {CLIP_S} s, medians of {scale.turns} turns | clips/s | ratio | processor, ms a clip |",
        "|---|---|---|---|",
        f"| `embedx extract` from files, without its start | {from_files:.0f} | 1 | {files_ms:.1f} |",
        f"| `POST /v1/embeddings`, {CLIENTS} connections | {per_s:.0f} | {ratio:.2f} | {served_ms:.1f} |",
        f"\nBoth embed the same {scale.clips} WAV files of 16 kHz, in turns: `extract` in one run, of whose time that "
        f"of {FEW_CLIPS} files is taken off; the service from bodies of JSON with base64, which wrk sends from the "
        f"same cores for {scale.seconds} s. The processor time is that of embedx with its decoders, without wrk. The "
        f"p99 of a request was {p99_ms:.0f} ms, {failed:.0f} requests failed, and the process had {embed_mb:.0f} MB.",
        *memory_lines,
    ]


def memory_part(folder: Path, scale: Scale, targets: Targets) -> list[str]:
    """Return the memory over many requests of all kinds to a service with YAMNet."""
    say(f"memory over {scale.requests} requests")
    clips = (folder / "clips.jsonl").read_text().splitlines()
    with running([*serve_command(folder / "sounds"), "--allow-labels"]) as (url, process, _):
        sizes = dict(memory_over(url, "sounds", clips, process.pid, scale.requests))
    (first, before), (last, after) = next(iter(sizes.items())), list(sizes.items())[-1]
    growth = after / before - 1
    targets.add(f"memory from {first} to {last} requests: less than 5 % more", f"{growth:+.1%}", growth < 0.05)
    steps = ", ".join(f"{size:.0f}" for size in sizes.values())
    return [
        f"\n## Memory over {last} requests\n",
        "4 in 5 requests are searches and reads of rows, vectors, maps and columns; the others are audio, "
        "spectrograms, embeddings, predictions and facts. 1 in 200 changes a label and fetches an export. After "
        f"{first} requests the process has {before:.0f} MB, after {last} it has {after:.0f} MB ({growth:+.1%}). In MB "
        f"after every {first}: {steps}.",
    ]


def main() -> None:
    """Measure everything, and write the part of BENCHMARKS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="keep the collection and the data of other engines here")
    parser.add_argument("--rivals", metavar="PYTHON", help="a Python with fastapi, uvicorn, chromadb and qdrant-client")
    parser.add_argument(
        "--small", action="store_true", help="try the program: little of everything, nothing is written"
    )
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing. Install it: apt-get install wrk")
    scale = SMALL if options.small else FULL
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        load = os.getloadavg()[0]
        prepare(folder, scale)
        targets = Targets()
        parts = [
            "\n## Search\n",
            *search_part(folder, scale, options.rivals, targets),
            "\n## Embedding\n",
            *embedding_part(scale, targets),
        ]
        lines = [
            f"Made by `python benchmarks/service.py` on {time.strftime('%Y-%m-%d')} at commit {commit()}: "
            f"{os.cpu_count()} cores of {name_device('cpu')}, load before {load:.1f}, Python "
            f"{platform.python_version()}. wrk 4 sends the requests from the same cores, over {CONNECTIONS} "
            "connections (8 for other engines, whose rate does not grow with more).\n",
            *targets.table(),
            *parts,
        ]
    print("\n".join(lines))
    if not options.small:
        write_part("Service", "\n".join(lines))


if __name__ == "__main__":
    main()
