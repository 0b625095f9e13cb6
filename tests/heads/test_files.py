"""A saved head round-trips bit for bit, predicts with numpy alone, and is refused if any byte has changed."""

import hashlib
import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from embedx.errors import DiskError, RecipeMismatch, StoreError, UsageError
from embedx.heads.files import arrays_name, check_name
from embedx.heads.head import Head
from embedx.heads.kinds import KINDS
from embedx.heads.safetensors import Unreadable, read_tensors, write_tensors
from embedx.recipe import Recipe
from tests.helpers.amounts import fast_and_long
from tests.helpers.head_data import CLASSES, GROUPS, MANY, NEW, NEW_Y, X, Y, fit, shaped
from tests.reliability.report import report, seed

RECIPE = Recipe("logmel", "built in", "", 16_000, (0, 3), ("mean",))
ALONE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("numpy", "embedx"):
            raise ImportError(f"{name} is not on this machine")

sys.meta_path.insert(0, Blocked())
import numpy as np
from embedx.heads import Head
folder = sys.argv[1]
head = Head.load(folder)
x = np.load(folder + "/../x.npy")
np.save(folder + "/../proba.npy", head.predict_proba(x, calibrated=True))
head.predict(x, thresholds=head.thresholds(recall=0.5))
"""


def make(kind: str, *, multilabel: bool = False) -> Head:
    head = fit(kind, X, MANY if multilabel else Y, multilabel=multilabel, groups=GROUPS)
    new = shaped(kind, NEW)
    truth = MANY[: len(NEW)] if multilabel else NEW_Y
    head = head.calibrate("isotonic", head.logits(new), truth)
    head = head.measure_points(head.predict_proba(new, calibrated=True), truth)
    metrics = {"accuracy": 0.5, "never": float("nan"), "matrix": np.eye(2)}
    return head.replace(views=("L3.mean",), recipe=json.loads(RECIPE.to_json()), metrics=metrics)


def arrays_file(folder: Path) -> Path:
    """Return the only file with arrays in the folder of a head."""
    (file,) = folder.glob("*.safetensors")
    return file


@pytest.fixture(scope="module")
def head() -> Head:
    return make("logistic")


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_saved_head_round_trips_bit_for_bit(kind: str, multilabel: bool, tmp_path: Path) -> None:
    head = make(kind, multilabel=multilabel)
    head.save(tmp_path / "heads" / "mine")
    back = Head.load(tmp_path / "heads" / "mine")
    for name in ("kind", "classes", "multilabel", "views", "recipe", "settings", "metrics"):
        assert getattr(back, name) == getattr(head, name), name
    assert list(back.arrays) == sorted(back.arrays) or back.arrays.keys() == head.arrays.keys()
    for name, array in head.arrays.items():
        assert back.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(back.arrays[name], array)
    new = shaped(kind, NEW)
    np.testing.assert_array_equal(back.predict_proba(new, calibrated=True), head.predict_proba(new, calibrated=True))
    other = load_file(arrays_file(tmp_path / "heads" / "mine"))  # and the library reads the same
    assert {name: array.tobytes() for name, array in other.items()} == {
        name: np.ascontiguousarray(array).tobytes() for name, array in head.arrays.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_saved_head_predicts_with_numpy_alone(kind: str, tmp_path: Path) -> None:
    head = make(kind)
    head.save(tmp_path / "mine")
    np.save(tmp_path / "x.npy", shaped(kind, NEW))
    subprocess.run([sys.executable, "-c", ALONE, str(tmp_path / "mine")], check=True)
    expected = head.predict_proba(shaped(kind, NEW), calibrated=True)
    np.testing.assert_allclose(np.load(tmp_path / "proba.npy"), expected, atol=1e-9)


def test_second_save_replaces_the_first(head: Head, tmp_path: Path) -> None:
    head.save(tmp_path / "mine")
    head.replace(metrics={"accuracy": 1.0}).save(tmp_path / "mine")
    assert Head.load(tmp_path / "mine").metrics == {"accuracy": 1.0}
    assert [one.name for one in tmp_path.iterdir()] == ["mine"]


def test_failed_save_keeps_the_old_head(head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head.save(tmp_path / "mine")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("embedx.filesystem.atomic.sync_folder", full)
    with pytest.raises(DiskError, match="No space left"):
        head.replace(metrics={}).save(tmp_path / "mine")
    monkeypatch.undo()
    assert Head.load(tmp_path / "mine").metrics == head.metrics
    assert [one.name for one in tmp_path.iterdir()] == ["mine"]


def flip(file: Path, place: int, bit: int) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1 << bit
    file.write_bytes(data)


@fast_and_long("flips", 150, 1000, "EMBEDX_FLIPS")
def test_changed_byte_is_detected(head: Head, tmp_path: Path, flips: int) -> None:
    begun, random = time.monotonic(), np.random.default_rng(seed())
    head.save(tmp_path / "mine")
    for file in (tmp_path / "mine" / "head.json", arrays_file(tmp_path / "mine")):
        data = file.read_bytes()
        for place in random.integers(0, len(data), flips).tolist():
            flip(file, place, int(random.integers(0, 8)))
            with pytest.raises(StoreError, match=r"head\.json|safetensors"):
                Head.load(tmp_path / "mine")
            file.write_bytes(data)
        for other in (data[:-1], data + b"\0", b"", data[: len(data) // 2]):
            file.write_bytes(other)
            with pytest.raises(StoreError, match=file.name.replace(".", r"\.")):
                Head.load(tmp_path / "mine")
        file.unlink()
        with pytest.raises(StoreError, match="missing"):
            Head.load(tmp_path / "mine")
        file.write_bytes(data)
    report("changed bytes of a head", 2 * flips, 0, begun, seed())


def save_as_version_1(head: Head, folder: Path) -> None:
    """Write a head as embedx did before: with head.safetensors, and a checksum of the values of head.json."""
    data = write_tensors(head.arrays)
    folder.mkdir(parents=True)
    (folder / "head.safetensors").write_bytes(data)
    note = {"format": "embedx head", "version": 1, **head.to_dict(), "numbers": hashlib.sha256(data).hexdigest()}
    note["note"] = hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()
    (folder / "head.json").write_text(json.dumps(note, indent=1))


def test_head_of_version_1_opens_and_is_replaced(head: Head, tmp_path: Path) -> None:
    save_as_version_1(head, tmp_path / "mine")
    np.testing.assert_array_equal(Head.load(tmp_path / "mine").logits(NEW), head.logits(NEW))
    head.replace(metrics={}).save(tmp_path / "mine")
    assert Head.load(tmp_path / "mine").metrics == {}
    assert sorted(one.suffix for one in (tmp_path / "mine").iterdir()) == [".json", ".safetensors"]
    flip(arrays_file(tmp_path / "mine"), 5, 1)
    with pytest.raises(StoreError):
        Head.load(tmp_path / "mine")


def forge(folder: Path, head: Head, arrays: Any = None, **fields: Any) -> None:
    """Write a head with any values and with correct checksums, as an attacker could."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    data = write_tensors(head.arrays if arrays is None else arrays)
    description = {"format": "embedx head", "version": 2, **head.to_dict(), "arrays": hashlib.sha256(data).hexdigest()}
    description |= fields
    (folder / arrays_name(hashlib.sha256(data).hexdigest())).write_bytes(data)
    body = json.dumps(description, indent=1)
    checksum = hashlib.sha256(body.encode()).hexdigest()
    (folder / "head.json").write_text(f'{body[:-2]},\n "checksum": "{checksum}"\n}}\n')


def with_value(array: Any, value: float) -> Any:
    changed = np.array(array)
    changed.flat[changed.size // 2] = value
    return changed


@pytest.mark.parametrize("kind", KINDS)
def test_array_with_nan_or_infinity_or_another_shape_is_refused(kind: str, tmp_path: Path) -> None:
    head, folder = make(kind), tmp_path / "mine"
    for name, array in head.arrays.items():
        changes = [with_value(array, value) for value in (np.nan, np.inf, -np.inf)] + [array[:-1], array[None]]
        for changed in changes[1 if name == "operating.points" else 0 :]:  # an unused point is NaN
            arrays = dict(head.arrays) | {name: changed}
            forge(folder, head, arrays)
            with pytest.raises(StoreError, match="cannot be used as a head"):
                Head.load(folder)
            with pytest.raises(UsageError):
                head.replace(arrays=arrays).save(tmp_path / "other")
            assert not (tmp_path / "other").exists()


INPUTS: list[Any] = [[7], [10**15], [], [-1], [1.5], "x", [[7]], None]
STEPS: list[Any] = ["many", -1, 10**12, None, 0.5]
CLASS_LISTS: list[Any] = [["one"], [], "abcd", None, 7, ["cat"] * 4, [[], 1, 2, 3], [None] * 4]
NO_MAPPINGS: list[Any] = [None, [], "x", 7]


def test_inconsistent_head_with_valid_checksums_is_refused(head: Head, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    arrays, settings = dict(head.arrays), head.settings
    changes: tuple[dict[str, Any], ...] = (
        {"arrays": {name: array for name, array in arrays.items() if name != "weight"}},
        {"arrays": arrays | {"bias": arrays["bias"][:2], "weight": arrays["weight"][:2]}},
        {"arrays": arrays | {"step9.mean": arrays["step0.mean"]}},
        *({"settings": {**settings, "input": value}} for value in INPUTS),
        *({"settings": {**settings, "steps": value}} for value in STEPS),
        *({"classes": value} for value in CLASS_LISTS),
        *({name: value} for name in ("settings", "metrics") for value in NO_MAPPINGS),
        {"settings": {}},
        {"multilabel": "yes"},
        {"kind": ["evil"]},
        {"views": ["L0.mean", "L0.mean"]},
        {"recipe": "evil"},
        {"surprise": 1},
    )
    for change in changes:
        forge(folder, head, **change)
        with pytest.raises(StoreError, match="cannot be used as a head"):
            Head.load(folder)
    others: tuple[tuple[dict[str, Any], str], ...] = (
        ({"version": 3}, "Update"),
        ({"version": 1}, "damaged or was edited"),
        ({"version": [2]}, "Update"),
        ({"format": "other"}, "'other'"),
        ({"arrays": None}, "damaged or was edited"),
    )
    forge(folder, head)
    for change, message in others:
        text = json.loads((folder / "head.json").read_text())
        body = json.dumps({name: value for name, value in (text | change).items() if name != "checksum"}, indent=1)
        sum_of_body = hashlib.sha256(body.encode()).hexdigest()
        (folder / "head.json").write_text(f'{body[:-2]},\n "checksum": "{sum_of_body}"\n}}\n')
        with pytest.raises(StoreError, match=message):
            Head.load(folder)
        forge(folder, head)
    for place in ("../../outside", "/etc/passwd", "a" * 63 + "/"):  # a file name is never taken from the file
        (tmp_path / "outside.safetensors").write_bytes(write_tensors(head.arrays))
        body = json.dumps({"format": "embedx head", "version": 2, **head.to_dict(), "arrays": place}, indent=1)
        sum_of_body = hashlib.sha256(body.encode()).hexdigest()
        (folder / "head.json").write_text(f'{body[:-2]},\n "checksum": "{sum_of_body}"\n}}\n')
        with pytest.raises(StoreError, match="damaged or was edited"):
            Head.load(folder)
    for content in ("[]", "{}", "null", '"a"', "[" * 100_000):
        (folder / "head.json").write_text(content)
        with pytest.raises(StoreError, match="does not describe a head"):
            Head.load(folder)


def test_reader_of_a_head_that_is_replaced_sees_the_old_or_the_new_one(head: Head, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    others = [head.replace(arrays=dict(head.arrays) | {"bias": head.arrays["bias"] + i}) for i in range(2)]
    others[0].save(folder)
    ended = threading.Event()

    def replace_again_and_again() -> None:
        while not ended.is_set():
            for other in others:
                other.save(folder)

    writers = [threading.Thread(target=replace_again_and_again) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        seen = {float(Head.load(folder).arrays["bias"][0] - head.arrays["bias"][0]) for _ in range(100)}
    finally:
        ended.set()
        for writer in writers:
            writer.join()
    assert seen <= {0.0, 1.0}
    assert len(list(folder.iterdir())) == 2


def test_tensor_file_with_false_header_is_refused() -> None:
    def pack(header: Any, numbers: bytes = b"\0" * 8) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + numbers

    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    assert read_tensors(pack({"a": entry, "__metadata__": {"b": "c"}}))["a"].tolist() == [0, 0]
    for data in (
        b"",
        b"\xff" * 8,
        (2**63).to_bytes(8, "little") + b"{}",
        pack(b"\xff\xfe"),
        pack([]),
        pack({}),
        pack({"a": 3}),
        pack({"a": entry | {"dtype": "F128"}}),
        pack({"a": entry | {"shape": [3]}}),
        pack({"a": entry | {"shape": [-2]}}),
        pack({"a": entry | {"shape": [2.0]}}),
        pack({"a": entry | {"shape": [2, 10**30, 0]}}),
        pack({"a": entry | {"data_offsets": [-8, 0]}}),
        pack({"a": entry | {"data_offsets": [4, 12]}}),
        pack({"a": entry}, b"\0" * 9),
        pack({"a": entry}, b"\0" * 7),
        pack({"a": entry, "b": entry}),
        pack(b"[" * 100_000),
    ):
        with pytest.raises(Unreadable):
            read_tensors(data)


def test_head_name_that_is_unsafe_is_refused() -> None:
    for name in ("species", "L9.mean+PCA_2", "1", "Vögel"):
        check_name(name)
    for name in ("", "a/b", "..", ".hidden", "a b", "-x", "a\n", "x" * 201, "mine.new", "mine.old", "a:b", "a."):
        with pytest.raises(UsageError, match="not allowed as the name of a head"):
            check_name(name)


def test_empty_head_name_writes_nothing(head: Head, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        head.save(tmp_path / "a b")
    assert not list(tmp_path.iterdir())


def test_head_refuses_vectors_of_another_recipe(head: Head) -> None:
    recipe = json.loads(RECIPE.to_json())
    head.check_recipe(recipe, RECIPE.views)
    head.check_recipe(recipe | {"source": "elsewhere", "layers": (3,)}, ("L3.mean",))
    differences = "weights: '' for the head, 'abc' for these vectors; window_s: None for the head, 5"
    with pytest.raises(RecipeMismatch, match=differences):
        head.check_recipe(recipe | {"weights": "abc", "window_s": 5.0}, RECIPE.views)
    with pytest.raises(RecipeMismatch, match=r"view L3\.mean is missing; there are: L0\.mean"):
        head.check_recipe(recipe, ("L0.mean",))
    head.replace(recipe=None).check_recipe(recipe, RECIPE.views)
    with pytest.raises(RecipeMismatch, match="which view"):
        head.replace(views=()).check_recipe(recipe, RECIPE.views)


def test_head_facts_outside_json_are_refused(head: Head) -> None:
    kept = head.replace(metrics={"a": np.float64("inf"), "b": (np.int64(1), np.bool_(True)), 3: None})
    assert kept.metrics == {"a": None, "b": [1, True], "3": None}
    with pytest.raises(UsageError, match="JSON"):
        head.replace(metrics={"a": object()})
    assert head.classes == CLASSES
