"""YAMNet equals an independent implementation."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from safetensors.torch import save_file

from embedx import extractors
from embedx.errors import ModelError, UsageError
from embedx.extractors import yamnet, yamnet_classes
from embedx.extractors.melspec import LogMel, count_patches, patches
from tests.helpers.conformance import run
from tests.helpers.random_models import random_yamnet


def test_yamnet_is_found_by_variable_folder_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = random_yamnet(tmp_path)
    monkeypatch.setenv("EMBEDX_YAMNET_WEIGHTS", str(path))
    names = ["yamnet", f"yamnet:{path}", f"yamnet:{tmp_path}", str(path), str(tmp_path)]
    assert len({extractors.load(name).weights for name in names}) == 1
    assert {extractors.resolve(name)[0] for name in names} == {"yamnet"}


def test_yamnet_refuses_other_weights(tmp_path: Path) -> None:
    save_file({"conv0.weight": torch.zeros(1)}, tmp_path / "yamnet.safetensors")
    with pytest.raises(ModelError, match=r"conv1\.weight"):
        extractors.load(f"yamnet:{tmp_path}")


def test_front_end_of_sine_peaks_at_its_band() -> None:
    """The figures of VGGish's published front end for 3 s of 1 kHz, from an independent float64 implementation."""
    sine = torch.sin(2 * torch.pi * 1000 * torch.arange(48_000, dtype=torch.float64) / 16_000).float()
    found = patches(LogMel(0.01)(sine[None]), hop=96)[0]
    assert found.shape == (3, 96, 64)
    values = {
        0: -4.48313,
        1: -4.27083,
        10: -3.47829,
        20: 4.77504,
        21: 2.26222,
        22: -0.58961,
        31: -4.17908,
        63: -4.60116,
    }
    for band, value in values.items():
        assert found[0, 0, band] == pytest.approx(value, abs=1e-4)
    assert found.mean() == pytest.approx(-3.429619, abs=1e-4)
    assert found.std(correction=0) == pytest.approx(2.126577, abs=1e-4)


def test_front_end_equals_the_reference(shared: Path) -> None:
    golden = np.load(shared / "reference/frontend_golden.npz", allow_pickle=False)
    clip = torch.from_numpy(golden["clip_16k"])[None]
    for offset, name in ((0.01, "clip_vggish_logmel"), (0.001, "clip_yamnet_logmel")):
        np.testing.assert_allclose(LogMel(offset)(clip)[0].numpy(), golden[name], atol=1e-4)


def test_yamnet_equals_the_reference(shared: Path) -> None:
    golden = np.load(shared / "reference/yamnet_golden.npz", allow_pickle=False)
    extractor = yamnet.load(str(shared / "weights/yamnet"))
    clips = []
    for name in golden["files"]:
        samples, rate = soundfile.read(shared / "data/esc10/audio" / str(name), dtype="float32", always_2d=True)
        clips.append(torch.from_numpy(soxr.resample(samples.mean(axis=1), rate, 16_000, quality="HQ")))
    (found,) = run(extractor, clips).values()
    assert [len(one) for one in found] == golden["n_patches"].tolist()
    np.testing.assert_allclose([one.mean(dim=0) for one in found], golden["mean_embedding"], atol=1e-4)
    np.testing.assert_allclose([one.amax(dim=0) for one in found], golden["max_embedding"], atol=1e-3)
    np.testing.assert_allclose([extractor.scores(one).mean(dim=0) for one in found], golden["mean_scores"], atol=1e-4)


def test_patch_count_equals_patches_cut() -> None:
    for n in (15_600, 15_759, 23_279, 23_280, 80_016, 160_000):
        cut = patches(LogMel(0.01)(torch.zeros(1, n)), hop=48)
        assert count_patches(torch.tensor([n]), 48).item() == cut.shape[1]


def test_classifier_gives_the_mean_scores_of_the_patches_and_the_names(tmp_path: Path) -> None:
    path = random_yamnet(tmp_path)
    (tmp_path / yamnet_classes.NAMES_FILE).write_text(
        "index,mid,display_name\n" + "".join(f'{i},/m/{i},"name {i}, other {i}"\n' for i in range(yamnet.CLASSES))
    )
    names = yamnet_classes.read_names(str(path))
    model = yamnet.load(str(path))
    classifier = yamnet_classes.YamnetClassifier(model, names)
    waves, lengths = torch.rand(2, 40_000) - 0.5, torch.tensor([40_000, 16_000])
    with torch.inference_mode():
        scores = classifier.scores(waves, lengths)["label"]
        for i, length in enumerate(lengths.tolist()):
            ((_, frames, _),) = model.frames(waves[i : i + 1, :length], lengths[i : i + 1], (0,))
            assert (scores[i] - model.scores(frames)[0].mean(dim=0)).abs().max() < 1e-5
    assert (names[3], yamnet_classes.find_classes(names, "Other_3")) == ("name 3, other 3", [3])
    with pytest.raises(UsageError, match="Similar names: name 7"):
        yamnet_classes.find_classes(names, "nam 7")


def test_missing_names_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"yamnet_class_map\.csv of the release"):
        yamnet_classes.read_names(str(random_yamnet(tmp_path)))


def test_members_of_wide_classes_are_names_of_the_release(shared: Path) -> None:
    names = yamnet_classes.read_names(str(shared / "weights/yamnet"))
    for wide, (first, last) in yamnet_classes.MEMBERS.items():
        assert names.index(wide) + 1 == names.index(first) <= names.index(last)
    for wide, members in yamnet_classes.FAR_MEMBERS.items():
        assert set(members) <= set(names) and wide in names
    found = yamnet_classes.find_classes(names, "dog")
    assert [names[i] for i in found] == ["Dog", "Bark", "Yip", "Howl", "Bow-wow", "Growling", "Whimper (dog)"]
    assert sum(len(yamnet_classes.find_classes(names, name)) > 1 for name in names) == 119  # as in the ontology


@pytest.mark.parametrize(
    ("wide", "members", "others"),
    [
        ("siren", ["Ambulance (siren)", "Civil defense siren"], ["Fire alarm"]),
        ("alarm", ["Fire alarm", "Ambulance (siren)", "Ding-dong", "Toot", "Bicycle bell"], ["Knock", "Car"]),
        ("bell", ["Wind chime", "Cowbell"], ["Gong"]),
        ("wild animals", ["Howl", "Hiss", "Owl"], ["Dog", "Meow"]),
        ("crying", ["Baby cry, infant cry"], ["Wail, moan"]),
        ("chewing", [], ["Biting"]),
        ("vocal music", ["Mantra", "Beatboxing"], ["Opera"]),
        ("train", ["Train horn"], ["Railroad car, train wagon"]),
        ("tools", ["Dental drill, dentist's drill"], ["Chainsaw"]),
        ("noise", ["White noise", "Hubbub, speech noise, speech babble"], ["Echo"]),
    ],
)
def test_wide_class_has_the_members_of_the_ontology(
    shared: Path, wide: str, members: list[str], others: list[str]
) -> None:
    names = yamnet_classes.read_names(str(shared / "weights/yamnet"))
    found = [names[number] for number in yamnet_classes.find_classes(names, wide)]
    assert set(members) <= set(found)
    assert not set(others) & set(found)
