"""The shape of the project: levels, homes of foreign libraries, what is public, what is quick."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import embedx

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "embedx"
LEVELS = {  # a module imports only from lower levels; within a level modules do not know each other
    **dict.fromkeys(("errors",), 0),
    **dict.fromkeys(("recipe", "disk", "headers", "metrics", "stopwatch", "collector", "child"), 1),
    **dict.fromkeys(("audio", "pooling", "store", "index", "extractors", "heads", "shots"), 2),
    **dict.fromkeys(("corpus", "windows", "synth", "labels", "lanes"), 3),  # corpus asks audio which files it takes
    **dict.fromkeys(("embedder", "decoding", "difference", "hear", "tasks", "splits", "limit"), 4),
    **dict.fromkeys(("search", "indexing", "duplicates", "interchange", "request", "readers"), 5),
    "run": 6,
    **dict.fromkeys(("checkup", "upkeep", "overlap"), 6),
    "evaluation": 7,
    **dict.fromkeys(("probe", "layers", "gain", "prediction", "suggest"), 8),
    "training": 9,
    "collection": 10,
    **dict.fromkeys(("ingest", "intake"), 11),
    "bench": 12,
    "cli": 13,
    **dict.fromkeys(("demo", "__main__"), 14),
}
HOMES = {
    "soundfile": {"audio", "synth", "demo"},  # the last two write
    "soxr": {"windows"},
    "av": {"audio"},
    "transformers": {"extractors"},
    "torchaudio": {"extractors", "corpus"},  # which asks it for the lists of a data set
    "torchvision": {"extractors"},
    "triton": {"extractors"},
    "torch": {"extractors", "pooling", "lanes", "embedder", "hear", "heads", "limit"},
    "onnx": {"heads"},
    "threadpoolctl": {"heads", "bench"},
    "sqlite3": {"store"},
    "faiss": {"index"},
    "pyarrow": {"interchange"},
    "datasets": {"interchange"},
    "sklearn": {"heads", "splits"},
    "scipy": {"bench"},
    "matplotlib": {"bench"},
    "umap": {"bench"},
    "click": {"cli"},
    "tqdm": {"cli"},
}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[tuple[str, ...]]:
    """Return every import of a module as the parts of its name, those for type checking only left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {(*node.module.split("."), alias.name) for alias in node.names}
    return found


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_below(path: Path) -> None:
    mine = room(path)
    for name in imports(path):
        if name[0] == "embedx" and len(name) > 1 and name[1] in LEVELS and name[1] != mine:
            assert LEVELS[name[1]] < LEVELS[mine], f"{mine} imports {name[1]}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_foreign_library_has_one_home(path: Path) -> None:
    for name in imports(path):
        assert room(path) in HOMES.get(name[0], {room(path)}), f"{name[0]} in {room(path)}"


def test_every_module_is_on_the_map() -> None:
    rooms = {room(path) for path in MODULES} - {"__main__", "demo"}
    assert embedx.__doc__ is not None
    for name in rooms:
        assert re.search(rf"\b{name}/? ", embedx.__doc__), f"{name} is not in the docstring of embedx"


def test_what_is_exposed_is_what_all_says() -> None:
    assert sorted(embedx.__all__) == embedx.__all__
    for name in embedx.__all__:
        assert getattr(embedx, name).__module__.startswith("embedx.")
    assert embedx.__version__ == importlib.metadata.version("embedx")


def loaded_by(code: str, *arguments: str) -> set[str]:
    heavy = ("torch", "transformers", "sklearn", "pandas", "faiss", "torchaudio", "scipy")
    code += f"\nimport sys; print(*(name for name in {heavy} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


def test_import_help_and_search_by_id_are_light(made: Path) -> None:
    assert loaded_by("import embedx") == set()
    assert loaded_by("from embedx.cli import run; run(['--help'])") == set()
    assert loaded_by("import sys; from embedx.cli import run; run(['status', sys.argv[1]])", str(made)) == set()
    search = "import sys; from embedx.cli import run; assert run(['search', sys.argv[1], '--id', '3']) == 0"
    assert loaded_by(search, str(made)) == set()


def test_import_takes_under_half_a_second() -> None:
    def seconds() -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import embedx"], check=True, env=os.environ)
        return time.perf_counter() - begun

    assert min(seconds() for _ in range(4)) < 0.5


def test_no_address_of_a_registry_and_no_path_of_a_machine_is_in_the_tree() -> None:
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout.split(b"\0")
    if files == [b""]:
        pytest.skip("not a git checkout")
    forbidden = re.compile(rb"https?://[^\s\"']*(pyp" rb"i|python" rb"hosted|npm" rb"js|deb" rb"ian)")
    for name in filter(None, files):
        path = ROOT / os.fsdecode(name)
        if path.exists():
            assert not forbidden.search(path.read_bytes()), path
