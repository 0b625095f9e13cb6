"""A saved head round-trips bit for bit, predicts with numpy alone, and is refused if any byte has changed."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from embedx.errors import DiskError, RecipeMismatch, StoreError, UsageError
from embedx.heads.files import check_name
from embedx.heads.head import Head
from embedx.heads.kinds import KINDS
from embedx.heads.safetensors import Unreadable, read_tensors, write_tensors
from embedx.recipe import Recipe
from tests.helpers.head_data import CLASSES, GROUPS, MANY, NEW, NEW_Y, X, Y, fit, shaped

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
    other = load_file(tmp_path / "heads" / "mine" / "head.safetensors")  # and the library reads the same
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


def test_changed_byte_is_detected(head: Head, tmp_path: Path) -> None:
    head.save(tmp_path / "mine")
    random = np.random.default_rng(0)
    for name in ("head.json", "head.safetensors"):
        file = tmp_path / "mine" / name
        data = file.read_bytes()
        for place in random.integers(0, len(data), 150).tolist():
            changed = bytearray(data)
            changed[place] ^= 1 << int(random.integers(0, 8))
            file.write_bytes(changed)
            try:
                back = Head.load(tmp_path / "mine")
            except StoreError as error:
                assert name in str(error) or "head.json" in str(error)
            else:  # white space, which means nothing
                assert name == "head.json"
                assert json.loads(changed) == json.loads(data)
                assert back.settings == head.settings
        for other in (data[:-1], data + b"\0", b"", data[: len(data) // 2]):
            file.write_bytes(other)
            with pytest.raises(StoreError, match=name.replace(".", r"\.")):
                Head.load(tmp_path / "mine")
        file.unlink()
        with pytest.raises(StoreError, match="missing"):
            Head.load(tmp_path / "mine")
        file.write_bytes(data)


def rewrite(folder: Path, arrays: dict[str, Any] | None = None, **fields: Any) -> None:
    """Change a head and correct its checksums, as an attacker could."""
    if arrays is not None:
        data = write_tensors(arrays)
        (folder / "head.safetensors").write_bytes(data)
        fields["numbers"] = hashlib.sha256(data).hexdigest()
    note = json.loads((folder / "head.json").read_text())
    del note["note"]
    note |= fields
    note["note"] = hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()
    (folder / "head.json").write_text(json.dumps(note))


def test_inconsistent_head_with_valid_checksums_is_refused(head: Head, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    arrays = dict(head.arrays)
    changes: tuple[dict[str, Any], ...] = (
        {"arrays": {name: array for name, array in arrays.items() if name != "weight"}},
        {"arrays": arrays | {"weight": arrays["weight"][:, 1:]}},
        {"arrays": arrays | {"bias": arrays["bias"][:2], "weight": arrays["weight"][:2]}},
        {"settings": {}},
        {"settings": {**head.settings, "input": [7]}},
        {"settings": {**head.settings, "steps": "many"}},
        {"settings": {**head.settings, "input": [10**15]}},
        {"classes": ["one"]},
        {"surprise": 1},
    )
    for change in changes:
        head.save(folder)
        rewrite(folder, **change)
        with pytest.raises(StoreError, match=r"head\.safetensors cannot be used as a head"):
            Head.load(folder)
    versions: tuple[tuple[dict[str, Any], str], ...] = (({"version": 2}, "Update"), ({"format": "other"}, "'other'"))
    for change, message in versions:
        head.save(folder)
        rewrite(folder, **change)
        with pytest.raises(StoreError, match=message):
            Head.load(folder)
    for text in ("[]", "{}", "null", '"a"', "[" * 100_000):
        (folder / "head.json").write_text(text)
        with pytest.raises(StoreError, match="does not describe a head"):
            Head.load(folder)


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


def test_head_facts_outside_json_are_refused(head: Head) -> None:
    kept = head.replace(metrics={"a": np.float64("inf"), "b": (np.int64(1), np.bool_(True)), 3: None})
    assert kept.metrics == {"a": None, "b": [1, True], "3": None}
    with pytest.raises(UsageError, match="JSON"):
        head.replace(metrics={"a": object()})
    assert head.classes == CLASSES
