"""The files of the page: what is in none of them, their sizes, and their texts in both languages."""

import gzip
import re
from collections import Counter
from pathlib import Path

from embedx.server.page_routes import FOLDER

SCRIPTS = sorted(FOLDER.glob("*.js"))
MAX_LINES = 300  # of a script
MAX_BYTES = 270_800  # of all files, not packed: four screens in two languages
MAX_SENT = 109_400  # of all files as they are sent, packed
MAX_FIRST_BYTES = 114_800  # of what the screen Find needs
MAX_FIRST_FILES = 20  # requests until it is painted
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|javascript:|srcdoc|"
    r"""\son[a-z]+=["']|setAttribute\("on"""
)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def words_of(language: str) -> dict[str, str]:
    """Return the texts of a language: those of the first screen, and those that come with another one."""
    tables = [text_of(path).split("`") for path in sorted(FOLDER.glob("words.*.js"))]
    found = [line.split(" | ") for _, table, _ in tables for line in table.strip().split("\n")]
    assert all(len(parts) == 3 and all(parts) for parts in found)
    keys = Counter(key for key, _, _ in found)
    assert [key for key, count in keys.items() if count > 1] == []
    return {key: {"en": english, "de": german}[language] for key, english, german in found}


def test_no_file_makes_elements_or_code_of_texts() -> None:
    for path in FOLDER.iterdir():
        assert not (found := FORBIDDEN.search(text_of(path))), f"{path.name}: {found}"


def test_html_and_styles_have_no_inline_script_or_style() -> None:
    page = text_of(FOLDER / "index.html")
    assert "style=" not in page
    assert "<style" not in page
    assert re.findall(r"<script(?![^>]* src=)", page) == []


def test_scripts_are_short_and_the_page_is_small() -> None:
    for path in SCRIPTS:
        assert len(text_of(path).splitlines()) < MAX_LINES, path.name
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert sum(sizes.values()) <= MAX_BYTES
    assert sum(len(gzip.compress(path.read_bytes(), mtime=0)) for path in FOLDER.iterdir()) <= MAX_SENT
    assert sum(sizes[name] for name in needed_first()) <= MAX_FIRST_BYTES
    assert len(needed_first()) <= MAX_FIRST_FILES


def needed_first() -> set[str]:
    """Return the files that are loaded before the first screen: those that app.js imports, and those of the HTML."""
    names, left = {"index.html", "page.css"}, ["app.js"]
    while left:
        name = left.pop()
        names.add(name)
        imported = re.findall(r'^import [^;]*? from "\./([\w.-]+)"', text_of(FOLDER / name), re.MULTILINE)
        left += [one for one in imported if one not in names]
    return names


def test_html_preloads_exactly_the_scripts_of_the_first_screen() -> None:
    preloaded = set(re.findall(r'rel="modulepreload" href="page/([\w.-]+)"', text_of(FOLDER / "index.html")))
    assert preloaded == {name for name in needed_first() if name.endswith(".js")} - {"app.js"}


def test_styles_of_a_screen_do_not_reach_another_one() -> None:
    for name, root in (("about", ".about"), ("label", ".labelling"), ("map", ".map")):  # once loaded, they stay
        assert re.findall(r"^[^\s/}].*", text_of(FOLDER / f"{name}.css"), re.MULTILINE) == [f"{root} {{"]


def test_both_languages_have_the_same_values() -> None:
    english, german = words_of("en"), words_of("de")
    assert english
    for key, text in english.items():
        assert set(re.findall(r"\{(\w+)", text)) == set(re.findall(r"\{(\w+)", german[key])), key


def test_every_text_of_the_scripts_is_in_the_table() -> None:
    words = words_of("en")
    used = {key for path in SCRIPTS for key in re.findall(r'\bt\("([\w.]+)"', text_of(path))}
    assert used - words.keys() == set()
    starts = {start for path in SCRIPTS for start in re.findall(r"\b(?:t|worded)\(`([\w.]+)\$\{", text_of(path))}
    for start in starts:
        assert any(key.startswith(start) for key in words), start
    starts |= {"reason.", "flag.", "why.", "figure."}  # words of the server
    quoted = {key for path in SCRIPTS for key in re.findall(r'"([a-z]\w*(?:\.\w+)*)"', text_of(path))}
    unused = {key for key in words if key not in used | quoted and not key.startswith(tuple(starts))}
    assert unused == set()


def test_every_icon_is_in_the_sprite() -> None:
    sprite = set(re.findall(r'<(?:path|g) id="(\w+)"', text_of(FOLDER / "index.html")))
    used = {name for path in SCRIPTS for name in re.findall(r'\b(?:icon|iconButton)\("(\w+)"', text_of(path))}
    assert used <= sprite
