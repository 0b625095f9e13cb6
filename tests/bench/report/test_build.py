import base64
import io
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedx.bench.artifacts import Predictions, note_run, save_predictions
from embedx.bench.leaderboard import boards
from embedx.bench.report.build import write_report
from embedx.bench.results import EVERY_LAYER, FILE, Result, extend_table, key, read_table
from embedx.errors import UsageError
from tests.helpers.bench_results import Corpus, make_benchmark, result

VOID = {"meta", "img", "br", "hr", "link", "input"}
NASTY = "<script>alert('&amp;')</script>"


class Page(HTMLParser):
    """The tags, attributes and text of a page; a tag that is not closed is an error."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    @property
    def pictures(self) -> list[bytes]:
        sources = [value for tag, name, value in self.attributes if (tag, name) == ("img", "src")]
        return [base64.b64decode(one.removeprefix("data:image/png;base64,"), validate=True) for one in sources]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tasks: one with a class name that is HTML, a leaky one, and one with nothing to learn."""
    folder = tmp_path_factory.mktemp("bench")
    make_benchmark(folder, "animals & <more>", Corpus(["dog", "cat", NASTY, "🦜", "$x$", "wind"], 60))
    make_benchmark(folder, "doubtful", Corpus(["dog", "cat"], 20), whole=False, leaky=True)
    corpus = Corpus(["background", "call", "song"], 60, learnable=False, shares=[0.78, 0.12, 0.10])
    make_benchmark(folder, "trap", corpus, whole=False)
    note_run(folder, tasks={"doubtful": {"duplicates": [["a<1>.wav", "b.wav"]] * 14}})
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page(write_report(folder))


def test_report_page_is_complete_and_self_contained(page: Page, folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert not re.search(r"url\(|@import|https?:|javascript:", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    anchors = {value for _, name, value in page.attributes if name == "id"}
    for tag, name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href"):
            assert (tag, name) == ("img", "src") or value.removeprefix("#") in anchors
    assert ("img", "alt") in {(tag, name) for tag, name, _ in page.attributes}
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_report_labels_are_escaped(page: Page) -> None:
    assert NASTY in page.text
    assert "animals & <more>" in page.text
    assert "🦜" in page.text


def test_report_pictures_equal_files_and_are_not_blank(page: Page, folder: Path) -> None:
    files = sorted((folder / "figures").iterdir())
    names = [re.sub(r"^\d+-", "", file.stem) for file in files]
    assert names[:6] == [f"animals-more-{i}" for i in (
        "1-layers", "2-shots", "3-confusion", "4-reliability", "5-classes", "6-map")]  # fmt: skip
    assert sorted(page.pictures) == sorted(file.read_bytes() for file in files)
    for data in page.pictures:
        image = Image.open(io.BytesIO(data))
        assert min(image.size) > 300
        assert np.asarray(image.convert("L")).std() > 5


def test_report_numbers_equal_leaderboard(page: Page, folder: Path) -> None:
    for board in boards(read_table(folder)):
        score = board.entries[0].scores["accuracy"]
        assert f"{score.mean:.3f} ± {score.half:.3f}" in page.text
    assert "(majority)" in page.text
    assert "(chance)" in page.text


def test_report_warnings_are_shown(page: Page) -> None:
    assert page.text.count("Leaky split.") == 1
    assert "5 of 80 test rows look like a training row: a<1>.wav and b.wav; " in page.text
    assert "and 2 more" in page.text.replace("; 2 more", " and 2 more")
    assert page.text.count("No setup is significantly above chance") == 1
    assert page.text.count("not above chance") == 1, "the badge"
    assert len(re.findall(r"(?<!not )(?<!significantly )above chance", page.text)) == 1


def test_report_shows_how_to_reproduce_it(page: Page) -> None:
    assert "embedx bench probe --task trap" in page.text
    assert '{"extractor": "hubert-base", "poolings": ["mean"]}' in page.text
    assert "scikit-learn" in page.text
    assert "the four takes of a recording are never parted" in page.text
    assert "5 folds by recording" in page.text


@pytest.mark.long
def test_report_is_deterministic_and_removes_old_figures(tmp_path: Path) -> None:
    make_benchmark(tmp_path, "animals", Corpus(["dog", "cat", "wind"], 18), leaky=True)
    before = write_report(tmp_path).read_bytes()
    (tmp_path / "figures" / "9-old-1-layers.png").write_bytes(b"")
    assert write_report(tmp_path).read_bytes() == before
    assert not (tmp_path / "figures" / "9-old-1-layers.png").exists()


def test_report_from_table_alone_is_written(folder: Path, tmp_path: Path) -> None:
    extend_table(tmp_path, read_table(folder))
    page = Page(write_report(tmp_path, metric="log_loss", top=3, title="By <log loss>"))
    assert "By <log loss>" in page.text
    assert "15 more are in results.csv" in page.text
    assert len(page.pictures) == 4


def test_report_of_one_fit_is_written(tmp_path: Path) -> None:
    extend_table(tmp_path, [result()])
    page = Page(write_report(tmp_path))
    assert "only one test part" in page.text
    assert page.pictures == []


def test_report_of_multilabel_heads_on_all_layers_is_written(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [
        result(fold, layer=layer, accuracy=None, map=0.6 + 0.1 * layer, macro_auc=0.8, chance=0.3)
        for layer in (0, 1, EVERY_LAYER)
        for fold in "123"
    ]
    extend_table(tmp_path, rows)
    truth = random.integers(0, 2, (60, 3))
    proba = np.clip(0.6 * truth + 0.4 * random.random((60, 3)), 0, 1).astype(np.float32)
    found = Predictions(("a", "b", "c"), truth, proba, np.repeat(["1", "2", "3"], 20), np.arange(60) // 2)
    save_predictions(tmp_path, key(rows[3]), found)
    page = Page(write_report(tmp_path))
    assert len(page.pictures) == 3
    assert {file.stem.split("-")[-1] for file in (tmp_path / "figures").iterdir()} == {
        "layers", "reliability", "classes"
    }  # fmt: skip
    assert "all layers.mean" in page.text


def test_report_without_results_is_refused_and_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no results yet"):
        write_report(tmp_path)
    extend_table(tmp_path, [result()])
    with pytest.raises(UsageError, match="Choose one of"):
        write_report(tmp_path, metric="beauty")
    (tmp_path / FILE).write_bytes(b"half a li")
    with pytest.raises(UsageError, match="incomplete"):
        write_report(tmp_path)
    assert not (tmp_path / "figures").exists()


def test_report_needs_no_display_and_no_pyplot(tmp_path: Path) -> None:
    rows: list[Result] = [result(fold, layer=layer) for fold in "12" for layer in (0, 1)]
    extend_table(tmp_path, rows)
    code = "import sys; from embedx.bench.report.build import write_report; write_report(sys.argv[1]); "
    code += "print([name for name in ('matplotlib.pyplot', 'torch', 'sklearn', 'pandas') if name in sys.modules])"
    env = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MPLBACKEND")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, env=env
    )
    assert done.stdout.strip() == "[]"
