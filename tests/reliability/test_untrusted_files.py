"""A file never chooses code, a host or a path: hostile values in every kind of file that embedx reads."""

import json
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import embedx
from embedx.errors import ModelError, StoreError
from embedx.recipe import Recipe
from embedx.store.records import Recording, Row
from embedx.store.store import Store
from tests.helpers.collections import DIM, build_collection
from tests.helpers.commands import Capture, WriteWav, outcome
from tests.helpers.conformance import Checkpoint
from tests.helpers.watching import Seen, watched

REFUSED = (2, 5, 7)  # exit codes: the file, the collection or the model is refused
EXTRACTORS = (  # extractor and source of a recipe; all but the last five would import evil.py
    *(("evil", "make"), ("plugin", "evil:make"), ("plugin", "hear:evil"), ("hear", "evil"), ("plugin", "loud")),
    *(("loud", ""), ("", "evil:make"), ("evil.make", ""), ("huggingface", "evil:make"), ("../evil", "make")),
    *(("os", "abort"), ("huggingface", "evil/model"), ("huggingface", "../../evil@../../x"), ("torchaudio", "evil")),
    ("torchaudio", "HUBERT_BASE"),
)
HOSTILE_VALUES: dict[str, tuple[object, ...]] = {
    "extractor": (None, 7, [], {}, "x" * 10_000),
    "source": (None, 7, ["a"], "x" * 10_000),
    "poolings": ([], ["../../outside"], ["mean; DROP TABLE rows"], [7], "", ["mean"] * 2, [""]),
    "layers": ([], ["../x"], [-1], [1.5], [True], [10**30], list(range(5000)), None),
    "window_s": (0, -1, 1e-9, 1e300, float("nan"), "1", True, []),
    "hop_s": (0, float("inf"), "1"),
    "sample_rate": (-1, 1.5, "16000", 10**12, None),
    **{"max_seconds": (-1,), "whole_s": (None,), "trim_silence": (1,), "tail": (None,), "surprise": (1,)},
}
HOSTILE_FIELDS = [(name, value) for name, values in HOSTILE_VALUES.items() for value in values]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_wav: WriteWav) -> Iterator[Path]:
    """A working folder with evil.py, a package with an entry point that names it, and an audio file."""
    (tmp_path / "evil.py").write_text("import pathlib\npathlib.Path('ran').touch()\ndef make(): raise SystemExit\n")
    package = tmp_path / "evil-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[embedx.extractors]\nloud = evil:make\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for variable in ("TORCH_HOME", "HF_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "cache"))
    write_wav("query.wav")
    yield tmp_path
    sys.modules.pop("evil", None)


def assert_harmless(seen: Seen, work: Path) -> None:
    assert not (work / "ran").exists(), "evil.py ran"
    assert "evil" not in seen.imports
    assert not seen.network
    assert not seen.processes
    outside = {path for path in seen.opened if Path(path).name.startswith("outside")}
    assert not outside, f"opened {outside}"


def forge(folder: Path, monkeypatch: pytest.MonkeyPatch, **fields: object) -> Path:
    """Make a collection of one row with a recipe that no embedx would store."""
    recipe = replace(Recipe("logmel", "", "00", 16_000, (0,), ("mean",)), **fields)  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        patch.setattr("embedx.store.reading.check_stored_family", lambda family: None)
        with Store.create(folder, recipe, DIM) as store:
            recording = Recording(str(folder.parent / "query.wav"), 1, 1, "[]")
            row = Row(1, recording.path, 0.0, 1.0, "dog", None, None, (), {})
            view = next(iter(recipe.views))
            store.add([(recording, [(row, {view: np.ones(DIM, np.float32)})])], store.start_run({}))
    return folder


def export_forged(work: Path, form: str, fields: dict[str, object]) -> Path:
    """Export a collection, and change the recipe in the export."""
    work.mkdir(exist_ok=True)
    build_collection(work, np.ones((1, DIM), np.float32), ["dog"]).export(work / f"x.{form}", format=form)
    path = work / f"x.{form}"
    if form == "parquet":
        table = pq.read_table(path)
        recipe = json.loads(table.schema.metadata[b"embedx"]) | fields
        pq.write_table(table.replace_schema_metadata(table.schema.metadata | {b"embedx": json.dumps(recipe)}), path)
    elif form == "npy":
        file = path / "recipe.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    else:
        (file,) = [one for one in path.glob("*.json") if "embedx" in json.loads(one.read_text())]
        note = json.loads(file.read_text())
        file.write_text(json.dumps(note | {"embedx": note["embedx"] | fields}))
    return path


@pytest.mark.parametrize("extractor, source", EXTRACTORS)
def test_stored_recipe_starts_no_code_and_no_download(
    extractor: str, source: str, work: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = forge(work / "c", monkeypatch, extractor=extractor, source=source)
    commands = (
        ("search", collection, work / "query.wav"),
        ("search", collection, "--text", "a dog"),
        ("predict", collection, work / "query.wav", "--head", "none"),
        ("extract", work / "query.wav", "-o", collection),
        ("status", collection),
        ("verify", collection, "--repair"),
    )
    for command in commands:
        with watched() as seen:
            code, _, err = outcome(capsys, *command)
        assert_harmless(seen, work)
        assert code in (*REFUSED, *((0,) if command[0] in ("status", "verify") else ())), (command, code, err)
        assert "Internal error" not in err


@pytest.mark.parametrize("form", ["parquet", "npy", "hf"])
def test_export_with_hostile_recipe_is_refused_or_harmless(form: str, work: Path, capsys: Capture) -> None:
    values: list[dict[str, object]] = [{"extractor": name, "source": source} for name, source in EXTRACTORS[:12]]
    values += [{name: value} for name, value in HOSTILE_FIELDS[::9]]
    for number, fields in enumerate(values if form == "parquet" else values[::7]):
        path, out = export_forged(work / f"{number}", form, fields), work / f"i{number}"
        with watched() as seen:
            code, _, err = outcome(capsys, "import", path, "-o", out)
            if code == 0:
                code, _, err = outcome(capsys, "search", out, work / "query.wav")
        assert_harmless(seen, work)
        assert code in REFUSED, (fields, code, err)
        assert "Internal error" not in err


def test_recipe_with_hostile_values_is_refused() -> None:
    valid = json.loads(Recipe("logmel", "", "00", 16_000, (0,), ("mean",)).to_json())
    Recipe.from_json(json.dumps(valid))
    for name, value in HOSTILE_FIELDS:
        with pytest.raises(StoreError, match="stored recipe cannot be read"):
            Recipe.from_json(json.dumps(valid | {name: value}))
    for text in ("[]", "null", "7", '"a"', "[" * 100_000, "{", "{}"):
        with pytest.raises(StoreError, match="stored recipe cannot be read"):
            Recipe.from_json(text)


def test_model_that_user_names_may_be_outside_code(
    work: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = forge(work / "c", monkeypatch, extractor="plugin", source="evil:make")
    code, _, err = outcome(capsys, "search", collection, work / "query.wav")
    assert code == 7
    assert "--model evil:make" in err
    with pytest.raises(SystemExit):  # the code runs
        outcome(capsys, "search", collection, work / "query.wav", "--model", "evil:make")
    assert (work / "ran").exists()


@pytest.mark.parametrize("model", ["evil:make", "hear:evil", "loud", "plugin:evil:make", "evil/model", "HUBERT_BASE"])
def test_plan_in_file_starts_no_code_and_no_download(model: str, work: Path, capsys: Capture) -> None:
    for label in ("dog", "owl"):
        (work / "data" / label).mkdir(parents=True)
        shutil.copy(work / "query.wav", work / "data" / label)
    plan = work / "bench.toml"
    plan.write_text(f"task = ['data']\nout = 'out'\nmodel = [{model!r}]\n")
    with watched() as seen:
        code, _, err = outcome(capsys, "bench", "probe", "--config", plan)
    assert_harmless(seen, work)
    assert code == 7, err
    assert f"--model {model.removeprefix('plugin:')}" in err
    plan.write_text("task = ['data']\nout = 'out'\nmodel = ['logmel']\ntrust_model = true\n")
    assert outcome(capsys, "bench", "probe", "--config", plan)[0] == 2


def change(file: Path, **fields: object) -> None:
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(known | fields))


def move_weights(folder: Path) -> None:
    shutil.move(folder / "model.safetensors", folder.parent / "outside.safetensors")
    change(folder / "model.safetensors.index.json", metadata={}, weight_map={"a": "../outside.safetensors"})


def make_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cevil\nmake\n(tR.")


CHECKPOINT_CHANGES: dict[str, Callable[[Path], object]] = {
    "code for the model": lambda folder: change(
        folder / "config.json",
        auto_map={"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"},
        _attn_implementation="evil/kernel",
        quantization_config={"quant_method": "evil"},
        transformers_weights="../outside.safetensors",
    ),
    "code for an unknown model": lambda folder: change(
        folder / "config.json", model_type="evil", auto_map={"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}
    ),
    "code for the front end": lambda folder: change(
        folder / "preprocessor_config.json",
        auto_map={"AutoFeatureExtractor": "evil.Evil"},
        feature_extractor_type="Evil",
        _class_name="evil",
    ),
    "code for the tokenizer": lambda folder: change(
        folder / "tokenizer_config.json",
        auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]},
        tokenizer_class="Evil",
        vocab_file=str(folder.parent / "outside.json"),
    ),
    "weights elsewhere": move_weights,
    "adapter of another model": lambda folder: change(
        folder / "adapter_config.json", base_model_name_or_path="evil/model", peft_type="LORA"
    ),
    "pickle": make_pickle,
    "settings of a wrong type": lambda folder: change(folder / "preprocessor_config.json", sampling_rate="evil"),
}


@pytest.mark.parametrize("name", CHECKPOINT_CHANGES)
def test_checkpoint_starts_no_code_and_leads_nowhere(
    name: str, work: Path, checkpoint: Checkpoint, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = work / "model"
    shutil.copytree(checkpoint("clap"), folder)
    shutil.copy(work / "evil.py", folder)
    CHECKPOINT_CHANGES[name](folder)
    collection = forge(work / "c", monkeypatch, extractor="huggingface", source=str(folder), sample_rate=48_000)
    for query in (("--text", "a dog"), (work / "query.wav",)):
        with watched() as seen:
            code, _, err = outcome(capsys, "search", collection, *query)
        assert_harmless(seen, work)
        assert code == 7, err
        with watched() as seen:
            code, _, err = outcome(capsys, "search", collection, *query, "--model", folder)
        assert_harmless(seen, work)
        assert code == 7, err
    if "tokenizer" in name:
        clap = embedx.extractors.load(str(folder))
        with watched() as seen, pytest.raises(ModelError, match="tokenizer"):
            clap.embed_text(["a dog"])  # type: ignore[attr-defined]
        assert_harmless(seen, work)


@pytest.mark.parametrize("key", ["vectors", "ids", "structure", "asked", "settings", "rows", "sums", "view"])
def test_index_manifest_leads_nowhere(key: str, made: Path, work: Path, capsys: Capture) -> None:
    collection = Path(shutil.copytree(made, work / "c"))
    right = outcome(capsys, "search", collection, "--id", 1)[1]
    file = collection / "index" / "L0.mean.cosine.json"
    written = json.loads(file.read_text())
    outside = work / "outside"
    if key in ("vectors", "ids"):
        shutil.copy(collection / "index" / written["note"][key], outside)
    else:
        outside.write_bytes(b"")
    values: list[object] = ["../../outside", str(outside), "..", "", 7, None, [], {}, {"10": {}}, {"10": 7}, 10**30]
    for value in values:
        note = written["note"] | {key: value}
        file.write_text(json.dumps({"note": note, "sum": zlib.crc32(json.dumps(note).encode())}))
        for command in (("verify", collection), ("status", collection), ("search", collection, "--id", 1)):
            with watched() as seen:
                code, text, err = outcome(capsys, *command)
            assert_harmless(seen, work)
            assert code in (0, 5), (value, command, err)
            assert "Internal error" not in err
        assert text == right


def test_folder_of_datasets_leads_nowhere(work: Path, capsys: Capture) -> None:
    path = export_forged(work, "hf", {})
    (data,) = path.glob("*.arrow")
    shutil.move(data, work / "outside.arrow")
    for place in ("../outside.arrow", str(work / "outside.arrow")):
        change(path / "state.json", _data_files=[{"filename": place}])
        with watched() as seen:
            code, _, err = outcome(capsys, "import", path, "-o", work / "i")
        assert_harmless(seen, work)
        assert code == 2, err
        assert "outside of its folder" in err
