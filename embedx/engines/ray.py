"""Ray: the shards of a plan on the machines of a Ray cluster, one process for each GPU or set of cores.

A process that dies costs the shard that it has in work, which another one continues. Without a common disk, a node
embeds its shards into its temporary folder. From there the node sends them to the bucket of the plan, or, if the plan
is in no bucket, this process fetches the files through Ray.
"""

import importlib
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedx.errors import EmbedxError, Interrupted, ModelError, StoreError, UsageError
from embedx.filesystem.atomic import replace_file, whole_folder
from embedx.ingest.options import ExtractOptions
from embedx.ingest.shards import COLLECTION_NAME, ITEMS_NAME, PLAN_NAME, Finished, Plan, embed_shard, parse_plan

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder

POLL_S = 1.0  # between two looks at signals and at new nodes
NODE_WAIT_S = 300.0  # a cluster that grows on demand may begin without nodes
MAX_ATTEMPTS = 12  # at one shard; a file that kills its process needs four, see `embedx.ingest.attempts`
TIDY_S = 60.0  # for the nodes to delete what is done
LOCAL_NODE = {"_node_ip_address": "127.0.0.1", "include_dashboard": False}


def load_ray() -> Any:
    """Import Ray.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UsageError("--engine ray needs Ray, which is not installed: pip install 'embedx[ray]'") from error


@contextmanager
def cluster(ray: Any, engine: str) -> Iterator[None]:
    """Connect to the cluster that `engine` or RAY_ADDRESS names, or start Ray on this machine.

    Raises:
        UsageError: the cluster cannot be reached.
    """
    address = engine if engine.startswith("ray://") else os.environ.get("RAY_ADDRESS", "")
    quiet = {"logging_level": "error", "log_to_driver": False}
    own = not ray.is_initialized()
    if own:
        try:
            ray.init(address or "local", **quiet, **({} if address else LOCAL_NODE))
        except Exception as error:  # Ray raises this class itself if a node does not start in time
            where = f"at {address}" if address else "on this machine"
            raise UsageError(f"Ray cannot be reached {where}: {(str(error) or repr(error)).splitlines()[0]}") from error
    try:
        yield
    finally:
        if own:
            ray.shutdown()


def embed_with_ray(plan: Plan, options: ExtractOptions, engine: str, interrupted: Callable[[], int]) -> Finished:
    """Embed the shards of a plan on a cluster; yield each with its report as it is done.

    Raises:
        UsageError: Ray is not installed, cannot be reached, or has no free cores.
        ModelError: a shard was tried too often, because every process that had it in work died.
        EmbedxError: an error that would stop every shard, such as a missing model.
    """
    ray = load_ray()
    todo = deque[int]()
    for number in range(1, plan.shards + 1):
        report = plan.report(number)
        if report is None:
            todo.append(number)
        else:
            yield number, report
    if todo:
        with cluster(ray, engine):
            yield from Workers(ray, plan, options, todo).run(interrupted)


class ShardWorker:
    """One process of the cluster. It loads the model once.

    Args:
        plan: the plan; its folder may be missing on this machine.
        options: how to embed.
        cores: the cores that this process may use; none: all.
    """

    def __init__(self, plan: Plan, options: ExtractOptions, cores: list[int]) -> None:
        if cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, set(cores) & os.sched_getaffinity(0) or os.sched_getaffinity(0))
        self.plan, self.options = plan, options
        self.embedder: Embedder | None = None

    def embed(self, number: int, items: bytes) -> tuple[dict[str, Any], str]:
        """Embed a shard; return its report and the folder in which it is.

        Args:
            number: of the shard.
            items: the content of its list of items.
        """
        self.embedder = self.embedder or self.options.load()
        plan = self.plan
        if not has_plan(plan):  # no common disk
            plan = replace(plan, folder=temporary_folder(plan))
            plan.place(number).mkdir(parents=True, exist_ok=True)
            replace_file(plan.place(number) / ITEMS_NAME, items)
        return embed_shard(plan, number, self.options, embedder=self.embedder), str(plan.place(number))

    def files(self, place: str) -> dict[str, bytes]:
        """Return the files of the collection of a shard: name -> content."""
        return {file.name: file.read_bytes() for file in Path(place, COLLECTION_NAME).iterdir() if file.is_file()}

    def forget(self, place: str) -> None:
        """Delete a shard that was sent or fetched, if it is in the temporary folder of this node."""
        if not has_plan(self.plan):
            shutil.rmtree(place, ignore_errors=True)


def has_plan(plan: Plan) -> bool:
    """Tell whether this machine sees the folder of a plan; another plan can be under the same path."""
    try:
        return parse_plan(plan.folder, (plan.folder / PLAN_NAME).read_bytes()).id == plan.id
    except (OSError, StoreError):
        return False


def temporary_folder(plan: Plan) -> Path:
    """Return where a node that does not see the folder of a plan embeds its shards."""
    return Path(tempfile.gettempdir(), f"embedx-{os.getuid()}-{plan.id}")


def tidy(plan: Plan, todo: Collection[int]) -> list[int]:
    """Delete the shards in the temporary folder of this node that are done; return those that were begun here."""
    folder, begun = temporary_folder(plan), list[int]()
    for place in folder.iterdir() if folder.is_dir() else ():
        if int(place.name) in todo:
            begun.append(int(place.name))
        else:
            shutil.rmtree(place, ignore_errors=True)
    with suppress(OSError):  # it holds shards, or never was
        folder.rmdir()
    return begun


@dataclass
class Workers:
    """The processes of a cluster and what they have in work.

    Attributes:
        todo: shards that no process has in work.
        actors: (node, place on the node) -> process.
        idle: processes without work.
        running: the future of Ray -> (process, shard).
        attempts: shard -> how often it was started.
        begun: shard in todo -> the node that began it, and may hold what is embedded.
    """

    ray: Any
    plan: Plan
    options: ExtractOptions
    todo: deque[int]
    actors: dict[tuple[str, int], Any] = field(default_factory=dict)
    idle: deque[tuple[str, int]] = field(default_factory=deque)
    running: dict[Any, tuple[tuple[str, int], int]] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    begun: dict[int, str] = field(default_factory=dict)

    def run(self, interrupted: Callable[[], int]) -> Finished:
        """Give each idle process a shard until all are done; yield them as they are done."""
        self._tidy_nodes()
        last_node = time.monotonic()
        while self.todo or self.running:
            self._start_actors()
            self._give_work()
            if self.actors:
                last_node = time.monotonic()
            elif time.monotonic() - last_node > NODE_WAIT_S:
                raise UsageError(f"The Ray cluster has had no node with a core or a GPU for {NODE_WAIT_S:g} s.")
            else:
                time.sleep(POLL_S)
            if signal_number := interrupted():
                raise Interrupted("Stopped. Run the same command again to continue.", signal_number)
            futures = list(self.running)
            for future in self.ray.wait(futures, timeout=POLL_S)[0] if futures else ():
                key, number = self.running.pop(future)
                try:
                    report, place = self.ray.get(future)
                    self._fetch(key, number, report, place)
                except self.ray.exceptions.RayTaskError as error:
                    raise (error.cause if isinstance(error.cause, EmbedxError) else error) from None
                except self.ray.exceptions.RayError:  # the process or its node died
                    del self.actors[key]
                    self.todo.appendleft(number)
                    self.begun[number] = key[0]
                else:
                    self.idle.append(key)
                    yield number, report
        self._tidy_nodes()

    def _tidy_nodes(self) -> None:
        """Delete the shards that are done on each node, and note where others were begun, also by another driver."""
        run = self.ray.remote(tidy)
        futures = {
            run.options(num_cpus=0, scheduling_strategy=self._on(node)).remote(self.plan, set(self.todo)): node
            for node, _, _ in self._nodes()
        }
        for future in self.ray.wait(list(futures), num_returns=len(futures), timeout=TIDY_S)[0] if futures else ():
            with suppress(self.ray.exceptions.RayError):  # the node died
                self.begun |= dict.fromkeys(self.ray.get(future), futures[future])

    def _nodes(self) -> Iterator[tuple[str, int, bool]]:
        """Yield each node, the number of processes for it, and whether each of these has a GPU."""
        needs_gpu = self.options.device in ("auto", "cuda")
        for node in self.ray.nodes():
            gpus = int(node["Resources"].get("GPU", 0)) if needs_gpu else 0
            places = gpus or int(node["Resources"].get("CPU", 0))
            if node["Alive"] and places:
                yield node["NodeID"], places, bool(gpus)

    def _on(self, node: str) -> Any:
        """Return the strategy of Ray that runs something on a node."""
        return self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id=node, soft=False)

    def _start_actors(self) -> None:
        """Start a process for each GPU, or each set of cores, of each node that has none yet."""
        begun = set(self.begun.values())
        for node, places, has_gpu in self._nodes():
            for key in ((node, place) for place in range(places)):
                if key not in self.actors and (len(self.idle) < len(self.todo) or node in begun):
                    self.actors[key] = self._start_actor(key, has_gpu)
                    self.idle.append(key)

    def _start_actor(self, key: tuple[str, int], has_gpu: bool) -> Any:
        node, place = key
        actor = self.ray.remote(ShardWorker).options(
            num_gpus=int(has_gpu), num_cpus=0 if has_gpu else 1, scheduling_strategy=self._on(node), max_restarts=0
        )
        # A process on one core decodes and computes in turn; more threads would wait for each other.
        options = self.options if has_gpu else replace(self.options, workers=0, device="cpu")
        options = replace(options, wait=True)  # a process of a driver that was killed may still have the shard
        return actor.remote(self.plan, options, [] if has_gpu else [place])

    def _give_work(self) -> None:
        """Give each idle process a shard; one that was begun goes to the same node if a process is idle there."""
        while self.idle and self.todo:
            pairs = ((key, number) for number, node in self.begun.items() for key in self.idle if key[0] == node)
            key, number = next(pairs, (self.idle[0], self.todo[0]))
            self.idle.remove(key)
            self.todo.remove(number)
            self.begun.pop(number, None)
            self.attempts[number] = self.attempts.get(number, 0) + 1
            if self.attempts[number] > MAX_ATTEMPTS:
                raise ModelError(
                    f"Shard {number} was tried {MAX_ATTEMPTS} times, and every process that embedded it died. Is there "
                    "enough memory for the model and a batch? Run the same command again to continue."
                )
            items = self.plan.item_lines(number)
            self.running[self.actors[key].embed.remote(number, items)] = key, number

    def _fetch(self, key: tuple[str, int], number: int, report: Mapping[str, Any], place: str) -> None:
        """Copy a shard from the disk of its node, unless this machine sees it or the bucket has it."""
        if self.plan.report(number) is None:
            if report["recordings"]:
                files = self.ray.get(self.actors[key].files.remote(place))
                with whole_folder(self.plan.collection(number)) as folder:
                    for name, content in files.items():
                        (folder / name).write_bytes(content)
            self.plan.write_report(number, report)
        self.actors[key].forget.remote(place)
