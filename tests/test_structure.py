"""The structure of the project: levels, foreign libraries, public names, light imports, the layout of the tests."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import embedx
from tests.helpers.paths import ROOT

PACKAGE = ROOT / "embedx"
LEVELS = {  # a package imports only from lower levels; packages of one level do not import each other
    **dict.fromkeys(("errors", "_version", "timing"), 0),
    **dict.fromkeys(("filesystem", "processes", "text", "arguments", "neighbours"), 1),
    **dict.fromkeys(("extractors", "metrics", "recipe"), 2),
    **dict.fromkeys(("audio", "store", "heads", "annotations"), 3),
    **dict.fromkeys(("copies", "datasets", "embedding", "index"), 4),
    **dict.fromkeys(("ingest", "search", "evaluation", "formats", "hear", "encoder"), 5),
    **dict.fromkeys(("training", "finetune"), 6),
    **dict.fromkeys(("collection", "client"), 7),
    **dict.fromkeys(("bench", "engines", "sharing", ""), 8),  # "" is embedx/__init__.py
    "server": 9,
    "cli": 10,
    "__main__": 11,
}
HOMES = {  # foreign library -> the packages that may import it
    "soundfile": {"audio", "datasets", "cli"},  # datasets writes the synthetic corpus, cli a clip of the demo
    "soxr": {"audio"},
    "av": {"audio"},
    "transformers": {"extractors", "finetune"},
    "torchaudio": {"extractors", "datasets"},  # datasets asks it for the lists of a data set
    "torchvision": {"extractors", "finetune"},
    "triton": {"extractors"},
    "accelerate": {"finetune"},
    "peft": {"finetune"},
    "optuna": {"finetune"},
    "torch": {"extractors", "embedding", "hear", "heads", "bench", "finetune"},  # bench measures the peak of a device
    "onnx": {"heads", "extractors"},
    "onnxruntime": {"extractors"},
    "threadpoolctl": {"heads", "bench"},
    "sqlite3": {"store"},
    "faiss": {"index"},
    "pyarrow": {"formats", "datasets", "audio"},  # tables of users, and the recordings in them
    "datasets": {"formats"},
    "sklearn": {"heads", "evaluation", "metrics"},
    "scipy": {"metrics", "bench"},
    "matplotlib": {"bench", "finetune"},
    "umap": {"bench", "formats"},
    "mlflow": {"bench"},
    "wandb": {"bench"},
    "fastapi": {"server"},
    "starlette": {"server"},
    "uvicorn": {"server"},
    "httptools": {"server"},
    "gradio": {"server"},
    "gradio_client": {"server"},
    "mcp": {"server"},
    "anyio": {"server"},
    "pydantic": {"server"},
    "prometheus_client": {"server"},
    "ray": {"engines"},
    "qdrant_client": {"engines"},
    "psycopg": {"engines"},
    "pymilvus": {"engines"},
    "fsspec": {"filesystem"},
    "aiohttp": {"filesystem"},
    "click": {"cli"},
    "tqdm": {"cli", "encoder"},
}
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def package_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path, *, for_types: bool) -> frozenset[tuple[str, ...]]:
    """Return the imports of a file as the parts of their names, with those inside functions.

    Imports under TYPE_CHECKING are included only if `for_types` is set.
    """
    names: set[tuple[str, ...]] = set()
    nodes: list[ast.AST] = [tree_of(path)]
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {(*node.module.split("."), alias.name) for alias in node.names}
        elif for_types or not isinstance(node, ast.If) or ast.unparse(node.test) != "TYPE_CHECKING":
            nodes.extend(ast.iter_child_nodes(node))
    return frozenset(names)


def imported_files(path: Path) -> set[Path]:
    """Return the files of embedx that a file imports, also for types only."""
    names = {".".join(parts) for parts in imports(path, for_types=True) if parts[0] == "embedx"}
    modules = (name if name in MODULES else name.rpartition(".")[0] for name in names)
    return {MODULES[name] for name in modules if name in MODULES} - {path}


def test_files_import_only_from_lower_levels() -> None:
    assert {package_of(path) for path in FILES} - LEVELS.keys() == set()  # each has a level
    for path in FILES:
        mine = package_of(path)
        for other in map(package_of, imported_files(path)):
            assert other == mine or LEVELS[other] < LEVELS[mine], f"{path} imports {other}"


def test_files_have_no_import_cycle() -> None:
    graph = {path: imported_files(path) for path in FILES}
    TopologicalSorter(graph).prepare()  # raises CycleError with the circle


def test_foreign_library_is_imported_in_its_home() -> None:
    for path in FILES:
        for name in imports(path, for_types=False):
            assert package_of(path) in HOMES.get(name[0], {package_of(path)}), f"{name[0]} in {path}"


def test_init_of_a_package_defines_nothing_but_re_exports() -> None:
    for path in FILES:
        if path.name == "__init__.py" and path.parent != PACKAGE:
            docstring, *others = tree_of(path).body
            assert isinstance(docstring, ast.Expr), path
            for node in others:
                is_all = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
                assert isinstance(node, ast.ImportFrom) or is_all, f"{path}: {ast.unparse(node)}"


def test_every_package_is_on_the_map() -> None:
    names = {package_of(path) for path in FILES} - {"", "__main__", "_version"}
    assert embedx.__doc__ is not None
    for name in names:
        assert re.search(rf"^    {name}/? ", embedx.__doc__, re.MULTILINE), f"{name} is not in the docstring of embedx"


def test_public_names_equal_all() -> None:
    assert sorted(embedx.__all__) == embedx.__all__
    assert dir(embedx) == embedx.__all__
    for name in set(embedx.__all__) - {"__version__"}:
        assert getattr(embedx, name).__module__.startswith("embedx.")
    assert embedx.__version__ == importlib.metadata.version("embedx")


def loaded_by(code: str, *arguments: str) -> set[str]:
    heavy = ("torch", "transformers", "sklearn", "pandas", "faiss", "torchaudio", "scipy", "fastapi", "uvicorn", "mcp")
    code += f"\nimport sys; print(*(name for name in {heavy} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


def test_import_help_and_search_by_id_load_no_heavy_library(made: Path) -> None:
    assert loaded_by("import embedx") == set()
    assert loaded_by("from embedx.cli import run; run(['--help'])") == set()
    assert loaded_by("import sys; from embedx.cli import run; run(['status', sys.argv[1]])", str(made)) == set()
    search = "import sys; from embedx.cli import run; assert run(['search', sys.argv[1], '--id', '3']) == 0"
    assert loaded_by(search, str(made)) == set()


def test_import_of_embedx_loads_few_modules() -> None:
    """Count modules, because seconds depend on the machine; `benchmarks/startup.py` measures seconds."""
    code = "import sys; before = set(sys.modules); import embedx; print(*(sys.modules.keys() - before))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = run.stdout.split()
    assert len(modules) < 100, modules  # 54, most of them for dataclasses and json
    assert all(name.split(".")[0] in {"embedx", *sys.stdlib_module_names} for name in modules)


def test_no_address_of_a_registry_and_no_path_of_a_machine_is_in_the_tree() -> None:
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout.split(b"\0")
    if files == [b""]:
        pytest.skip("not a git checkout")
    forbidden = re.compile(rb"https?://[^\s\"']*(pyp" rb"i|python" rb"hosted|npm" rb"js|deb" rb"ian)")
    for name in filter(None, files):
        path = ROOT / os.fsdecode(name)
        if path.exists():
            assert not forbidden.search(path.read_bytes()), path


def test_no_file_of_tests_imports_a_test_file() -> None:
    for path in TESTS:
        for first, *others in imports(path, for_types=False):
            assert first != "tests" or not any(part.startswith("test_") for part in others), f"{path}: {others}"


def test_folders_of_tests_mirror_packages() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in TESTS}
    for folder in folders - {Path("."), Path("helpers"), Path("reliability")}:
        assert (PACKAGE / folder).is_dir(), f"tests/{folder} mirrors no package"


def test_files_of_tests_have_at_most_400_lines() -> None:
    assert [path.name for path in TESTS if len(path.read_text(encoding="utf-8").splitlines()) > 400] == []


def test_modules_have_at_most_400_lines_and_functions_at_most_60() -> None:
    for path in FILES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or node.lineno) - node.lineno < 60, f"{path}: {node.name}"
