"""Published results beside those of a benchmark, and how the protocols differ."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from embedx.bench.head_spec import read_head
from embedx.bench.leaderboard import Board
from embedx.bench.published import Benchmark, PublishedResult, find_leak, is_official, published_results, same_name
from embedx.bench.report.conclusions import NAMES, choose_by_model
from embedx.bench.report.tables import Form, align, escape, header_lines
from embedx.bench.results import write_cell
from embedx.bench.setups import goodness
from embedx.errors import UsageError
from embedx.filesystem.paths import display_path
from embedx.text import dump_json

HEADER = ("task", "model", "ours", "published", "benchmark", "differs in")
HEADER_ALONE = ("task", "model", "published", "benchmark")


@dataclass(frozen=True)
class OurScore:
    """The score of a model on a board.

    Attributes:
        score: the mean by the metric of the board.
        how: how the setup was chosen, in words.
        heads: kinds of the chosen heads.
    """

    score: float
    how: str
    heads: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """A published result, and ours if there is one.

    Attributes:
        published: the published result.
        task, model: the names in our results, or else those of the published result.
        ours: our score; None if there is none.
        differences: how the protocols differ, in words.
    """

    published: PublishedResult
    task: str
    model: str
    ours: OurScore | None = None
    differences: tuple[str, ...] = ()


def list_published(tasks: Sequence[str] = (), models: Sequence[str] = ()) -> list[Pair]:
    """Return the published results of some tasks and models; of all if none is given.

    Raises:
        UsageError: no published result is known for one of the tasks or models.
    """
    results = published_results()
    for name in tasks:
        if not any(result.is_of_task(name) for result in results):
            known = join(result.task for result in results)
            raise UsageError(f"There is no published result of the task {name!r}. Known tasks: {known}.")
    for name in models:
        if not any(same_name(result.model, name) for result in results):
            known = join(result.model for result in results)
            raise UsageError(f"There is no published result of the model {name!r}. Known models: {known}.")
    chosen = [
        result
        for result in results
        if (not tasks or any(result.is_of_task(name) for name in tasks))
        and (not models or any(same_name(result.model, name) for name in models))
    ]
    return [Pair(result, result.task, result.model) for result in chosen]


def pair_with_boards(boards: Sequence[Board]) -> list[Pair]:
    """Return the published results of the tasks and models of boards beside ours."""
    pairs = []
    frozen = [replace(board, entries=tuple(e for e in board.entries if not e.setup.finetuned)) for board in boards]
    boards = [board for board in frozen if board.entries]  # what is published are probes of frozen vectors
    for task in dict.fromkeys(board.task for board in boards):
        same_task = [board for board in boards if board.task == task]
        for model in dict.fromkeys(entry.setup.model for board in same_task for entry in board.entries):
            measured = [board for board in same_task if any(entry.setup.model == model for entry in board.entries)]
            for result in published_results():
                if result.is_of(task, model):
                    board = pick_board(measured, result.benchmark)
                    ours = score_of_model(board, model)
                    pairs.append(Pair(result, task, model, ours, compare_protocols(board, ours, result)))
    return pairs


def pick_board(boards: Sequence[Board], benchmark: Benchmark) -> Board:
    """Return the board with the protocol that is nearest: not leaky, official, with as many training rows."""
    return min(
        boards,
        key=lambda board: (
            board.leaky,
            not is_official(board.split),
            str(board.shots) != benchmark.shots,
            board.shots != "all",
        ),
    )


def score_of_model(board: Board, model: str) -> OurScore:
    """Return the score of a model whose setup the other folds choose; of its best setup if there is one test part."""
    entries = [entry for entry in board.entries if entry.setup.model == model]
    choice = choose_by_model(board).get(model)
    if choice is not None:
        how = "setup chosen by the other folds" if len(entries) > 1 else "only setup"
        return OurScore(choice.score, how, heads_of(setup.head for setup in choice.setups))
    first = max(entries, key=lambda entry: goodness(entry.scores[board.metric].mean, board.metric))
    how = f"best of {len(entries)} setups, which is too high by chance" if len(entries) > 1 else "only setup"
    return OurScore(first.scores[board.metric].mean, how, heads_of([first.setup.head]))


def heads_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the kinds of heads without repetitions."""
    return tuple(dict.fromkeys(read_head(text).kind for text in texts))


def compare_protocols(board: Board, ours: OurScore, result: PublishedResult) -> tuple[str, ...]:
    """Return how the protocol of a board differs from that of a published result, in words."""
    theirs = result.benchmark
    split = "official folds" if is_official(board.split) else board.split
    facts = (
        ("shots", str(board.shots), theirs.shots),
        ("head", " or ".join(ours.heads), theirs.head),
        ("folds", f"leaky {split}" if board.leaky else split, theirs.split),
        ("metric", NAMES[board.metric], NAMES[theirs.metric]),
    )
    return tuple(f"{name} ({mine}; theirs {other})" for name, mine, other in facts if mine != other)


def write_published(pairs: Sequence[Pair], boards: Sequence[Board], form: Form) -> str:
    """Return published results as text.

    Args:
        pairs: the results.
        boards: our boards, to name the tasks and models without a published result; empty if there are none.
        form: "table", "markdown", "csv" or "json".
    """
    if form in ("csv", "json"):
        records = [to_record(pair) for pair in pairs]
        return dump_json(records) + "\n" if form == "json" else to_csv(records)
    rows = [list(HEADER if boards else HEADER_ALONE), *(to_cells(pair, bool(boards)) for pair in pairs)]
    leaks = [leak for board in boards if (leak := find_leak(board.task, board.split))]
    remarks = [*dict.fromkeys(leaks), *list_sources(pairs), *list_unmatched(pairs, boards)]
    if form == "table":
        return "\n".join([*(align(rows) if pairs else []), "", *remarks, ""])
    texts = [f"| {' | '.join(map(escape, row))} |" for row in rows[1:]]
    table = ["\n".join([*header_lines(rows[0]), *texts])] if pairs else []
    return "\n\n".join([*table, *map(escape, remarks)]) + "\n"


def to_cells(pair: Pair, with_ours: bool) -> list[str]:
    """Return a line of the table."""
    result = pair.published
    name = result.benchmark.name
    where = name if same_name(result.published_task, pair.task) else f"{name}, {result.published_task}"
    first, published = [display_path(pair.task), display_path(pair.model)], f"{result.score:.3f}"
    if not with_ours:
        return [*first, published, where]
    ours = f"{pair.ours.score:.3f}" if pair.ours else ""
    return [*first, ours, published, where, "; ".join(pair.differences) or "nothing known"]


def list_sources(pairs: Sequence[Pair]) -> list[str]:
    """Return the source and protocol of each benchmark, and how our scores were chosen."""
    sources = list(dict.fromkeys(pair.published.benchmark.describe() for pair in pairs))
    chosen = {f"{pair.model} on {pair.task}: {pair.ours.how}" for pair in pairs if pair.ours}
    return [*sources, *([f"Ours: {'; '.join(map(display_path, sorted(chosen)))}."] if chosen else [])]


def list_unmatched(pairs: Sequence[Pair], boards: Sequence[Board]) -> list[str]:
    """Return a sentence for each task and each model of a known task without a published result."""
    results, remarks = published_results(), []
    for task in dict.fromkeys(board.task for board in boards):
        known = [result for result in results if result.is_of_task(task)]
        if not known:
            remarks.append(
                f"There is no published result of the task {display_path(task)}. Known tasks: "
                f"{join(result.task for result in results)}."
            )
            continue
        models = {entry.setup.model for board in boards if board.task == task for entry in board.entries}
        missing = sorted(models - {pair.model for pair in pairs if pair.task == task})
        if missing:
            names, models_known = join(map(display_path, missing)), join(result.model for result in known)
            remarks.append(
                f"There is no published result of {names} on {display_path(task)}. Known models: {models_known}."
            )
    return remarks


def join(names: Iterable[str]) -> str:
    """Return names with commas, without repetitions."""
    return ", ".join(dict.fromkeys(names))


def to_record(pair: Pair) -> dict[str, Any]:
    """Return everything that is known about a pair."""
    result, benchmark = pair.published, pair.published.benchmark
    return {
        "task": pair.task,
        "model": pair.model,
        "ours": pair.ours and pair.ours.score,
        "ours_chosen": pair.ours and pair.ours.how,
        "published": result.score,
        "published_task": result.published_task,
        "published_model": result.model,
        "benchmark": benchmark.name,
        "differences": "; ".join(pair.differences),
        "shots": benchmark.shots,
        "head": benchmark.head,
        "folds": benchmark.split,
        "metric": benchmark.metric,
        "protocol": benchmark.protocol,
        "source": benchmark.source,
        "version": benchmark.version,
    }


def to_csv(records: Sequence[dict[str, Any]]) -> str:
    """Return records as CSV."""
    out = io.StringIO()
    columns = list(to_record(Pair(published_results()[0], "", "")))  # of an empty table too
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: write_cell(value) for name, value in record.items()} for record in records)
    return out.getvalue()
