"""The commands and the code of the documentation run."""

import inspect
import json
import math
import pkgutil
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Unpack, get_args

import click
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import embedx
from embedx.cli.app import COMMANDS, load_command
from embedx.engines import extract_shards
from embedx.errors import EmbedxError
from embedx.evaluation.options import ExperimentKwargs
from embedx.heads.options import HeadSettings
from embedx.training.active_learning import SuggestKwargs
from embedx.training.predict import PredictKwargs
from tests.helpers.paths import ROOT, SHARED

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_readme_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = blocks(README, "python")
    assert len(example.strip().splitlines()) <= 12
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec(example, scope)
    printed = capsys.readouterr().out
    assert "bell" in printed
    assert "linear probe" in printed
    assert len(scope["frame"]) == len(scope["matrix"])
    assert isinstance(scope["again"], embedx.Collection)


def test_encoder_example_runs() -> None:
    (example,) = blocks((ROOT / "docs/encoder.md").read_text(encoding="utf-8"), "python")
    scope: dict[str, Any] = {}
    exec(example, scope)
    assert scope["scores"][0, 1] > scope["scores"][0, 2]


@pytest.mark.long
def test_heads_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = blocks((ROOT / "docs/heads.md").read_text(encoding="utf-8"), "python")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec(example, scope)
    assert "better than chance" in capsys.readouterr().out
    assert scope["proba"].shape == (200, len(scope["trained"].classes))


def commands(text: str) -> list[list[str]]:
    """Return the embedx commands in a text as words, without pipes and redirections."""
    lines = re.findall(r"(?:^|\s|\| )(?:\$ )?(?:\w+=\S+ )?(embedx \w+ .*?)(?:  | >>|$)", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


PAGES = [ROOT / name for name in ("README.md", "indexes/README.md")] + sorted((ROOT / "docs").glob("*.md"))
SHOWN = "\n".join(block for page in PAGES for block in blocks(page.read_text(encoding="utf-8"), "console"))


def parse_command(words: list[str]) -> None:
    """Parse the options of a command, also of one in a group such as `bench probe`."""
    command, words = load_command(words[1]), words[2:]
    while isinstance(command, click.Group):
        command, words = command.commands[words[0]], words[1:]
    command.make_context(str(command.name), words)


@pytest.mark.parametrize("words", commands(SHOWN), ids=" ".join)
def test_documented_command_parses(words: list[str]) -> None:
    parse_command(words)


def test_readme_lines_outside_tables_have_at_most_120_characters() -> None:
    assert not [line for line in README.splitlines() if len(line) > 120 and not line.startswith("|")]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_documented_link_leads_to_a_file_and_heading(page: Path) -> None:
    for link in re.findall(r"\]\((?!https:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_documented_python_name_and_file_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in set(re.findall(r"`(embedx(?:\.\w+)+)", text)) - {"embedx.json", "embedx.json_columns"}:
        pkgutil.resolve_name(name)
    for name in re.findall(r"`((?:embedx|tests|benchmarks|docs)/[\w./]+\.\w+)`", text):
        assert name.startswith("benchmarks/esc50") or (ROOT / name).is_file(), name


@pytest.mark.parametrize("name", COMMANDS)
def test_command_help_has_examples_that_parse(name: str) -> None:
    command = load_command(name)
    assert command.help
    assert command.epilog is not None
    assert "Example" in command.epilog
    examples = [words for words in commands(command.epilog) if words[1] == name]
    assert examples or name in ("models", "completion")
    for words in examples:
        parse_command(words)
    assert f"`embedx {name}" in README


def keywords_of(function: Callable[..., object]) -> set[str]:
    """Return the names of the keywords of a function; those of `**options: Unpack[SomeKwargs]` one by one."""
    known = {one.__name__: one for one in (ExperimentKwargs, PredictKwargs, SuggestKwargs)} | {"Unpack": Unpack}
    names: set[str] = set()
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            annotation = parameter.annotation
            unpacked = eval(annotation, known) if isinstance(annotation, str) else annotation
            names |= set(get_args(unpacked)[0].__annotations__)
        else:
            names.add(parameter.name)
    return names - {"self"}


@pytest.mark.parametrize(
    "name", ["extract", "search", "probe", "train", "predict", "suggest", "duplicates", "export", "import"]
)
def test_command_options_equal_api_keywords(name: str) -> None:
    functions: dict[str, Callable[..., object]] = {
        "extract": embedx.extract,
        "search": embedx.Collection.search,
        "probe": embedx.Collection.probe,
        "train": embedx.Collection.fit_head,
        "predict": embedx.Collection.predict,
        "suggest": embedx.Collection.suggest,
        "export": embedx.Collection.export,
        "import": embedx.import_vectors,
        "duplicates": embedx.Collection.duplicates,
    }
    opening = keywords_of(embedx.open)
    keywords = keywords_of(functions[name]) - {"sample_rate"}  # of samples in memory
    if name == "predict":
        keywords |= keywords_of(embedx.predict)  # files without a collection
        keywords.remove("classifier")  # it is --model
    if name == "search":
        keywords.remove("query")  # it is the last of the arguments
    if name == "extract":
        keywords |= keywords_of(extract_shards)
    if name == "probe":
        keywords |= keywords_of(embedx.Collection.probe_zero_shot)
    if name in ("probe", "train"):
        keywords -= set(HeadSettings.__annotations__)  # they are values of --setting
    options = {one.name for one in load_command(name).params}
    assert keywords - options <= {"on_progress", "interrupted", "trust_model", "failures"}
    of_output = {"form", "all_groups", "columns", "as_json", "output", "save_clips", "report", "per_class", "merge"}
    of_output |= {"progress", "absolute_paths"}
    assert options - keywords <= {"collection", "places", "queries", "sweep", "settings"} | of_output | opening


def test_published_figures_of_the_guide_are_those_of_the_benchmark() -> None:
    figures = tomllib.loads((ROOT / "embedx/bench/published.toml").read_text(encoding="utf-8"))
    page = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    for name, scores in figures["benchmark"][0]["models"].items():
        cells = ["-" if math.isnan(score) else f"{100 * score:.1f}" for score in scores]
        assert f"| {name} | {' | '.join(cells)} |" in page


def test_documented_exit_codes_are_those_of_the_errors() -> None:
    from embedx import errors

    page = (ROOT / "docs/command-line.md").read_text(encoding="utf-8")
    documented = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", page, re.MULTILINE) for code in row.split(",")}
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, EmbedxError)]
    codes = {one.exit_code for one in kinds if one is not errors.Interrupted} | {0, errors.EXIT_SOME_FAILED, 130, 143}
    assert documented == codes


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the example is short and leaves a file to the interpreter
def test_collection_and_head_open_without_embedx_as_documented(made: Path, tmp_path: Path) -> None:
    example = "\n".join(blocks((ROOT / "indexes/README.md").read_text(encoding="utf-8"), "python"))
    assert "embedx" not in example.replace("indexes/NAME", "")
    own = shutil.copytree(made, tmp_path / "own")
    with embedx.open(own) as collection:
        collection.index()
        head = collection.fit_head(C=0.1, name="HEAD", view="L0.mean")
        expected = [hit.id for hit in collection.search(id=1, k=5, exclude_self=False)]
        scope: dict[str, Any] = {}
        exec(
            example.replace("indexes/NAME", str(own)).replace("FROM views", "FROM views WHERE name = 'L0.mean'"), scope
        )
        np.testing.assert_array_equal(scope["matrix"], collection.vectors())
        np.testing.assert_allclose(scope["proba"], head.predict_proba(collection.vectors()), atol=1e-9)
    assert scope["ids"].tolist() == [expected]
    assert scope["note"]["classes"] == list(head.classes)


SHOWN_BY_NOTEBOOKS = {  # what each must show, and how often at least
    "01_extract_and_search": {"image/png": 3, "<audio": 8, "linear probe": 1},
    "04_zero_shot_and_augmentation": {"image/png": 3, "<audio": 11, "nothing was trained": 1, "altered copies": 1},
    "02_linear_probe": {"image/png": 4, "<audio": 3, "95 % interval": 1, "Accuracy over layers": 1},
    "05_birds": {"image/png": 4, "<audio": 7, "recall of the calls": 1},
    "06_layers": {"image/png": 2, "<audio": 9, "have the same voice": 2},
    "03_finetune_or_probe": {"image/png": 4, "<audio": 3, "fine-tuned": 2, "trained parameters": 1, "Trained on": 1},
}


@pytest.mark.long
@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_runs_and_shows_its_pictures(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMALL", "1")  # fewer clips
    monkeypatch.setenv("EMBEDX_SHARED", str(SHARED))
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "outputs are not committed"
    NotebookClient(
        notebook,
        timeout=600,
        startup_timeout=300,  # a busy machine imports slowly
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    shown = json.dumps([cell.get("outputs") for cell in notebook.cells])
    for what, times in SHOWN_BY_NOTEBOOKS[path.stem].items():
        assert shown.count(what) >= times, what
