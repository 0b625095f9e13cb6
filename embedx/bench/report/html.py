"""HTML of a report: one file without scripts or external resources.

The page is built as a tree of elements, so that all text is escaped when it is written.
"""

import base64
from collections.abc import Sequence
from xml.etree.ElementTree import Element, tostring

from embedx.bench.significance import Score
from embedx.filesystem.paths import display_path

Content = str | Element

MAX_LETTERS = 26  # a table cell with more letters may be wrapped
CSS = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6470; --line: #d5dae0; --paper: #fff; --panel: #f5f7f9;
  --good: #0b6b4f; --warn: #a33f00; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #a2abb6; --line: #3a424c; --paper: #14181d;
  --panel: #1d232a; --good: #5fd0a8; --warn: #ff9d66; --accent: #6ab8ea; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 62rem; color: var(--ink); background: var(--paper);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
a { color: var(--accent); }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .5rem; padding-top: 1rem; border-top: 2px solid var(--ink); }
h3 { font-size: 1.02rem; margin: 2rem 0 .5rem; }
p { margin: .6rem 0; max-width: 46rem; }
.soft, figcaption, caption { color: var(--soft); font-size: .87rem; }
.warning { border-left: 4px solid var(--warn); background: var(--panel); padding: .6rem .9rem; max-width: none; }
.badge { display: inline-block; padding: 0 .5em; border: 1px solid; border-radius: 1em; font-size: .8rem;
  font-weight: 600; white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--warn); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .75rem 0 1.25rem; font-size: .87rem; border-top: 1.5px solid var(--ink);
  border-bottom: 1.5px solid var(--ink); font-variant-numeric: tabular-nums; }
caption { caption-side: top; text-align: left; padding-bottom: .4rem; max-width: 58rem; }
th { text-align: left; border-bottom: 1px solid var(--ink); font-weight: 600; vertical-align: bottom; }
th, td { padding: .22rem .55rem; } th:first-child, td:first-child { padding-left: .2rem; }
.n { text-align: right; } td.n, td.t { white-space: nowrap; } td.w { min-width: 11rem; overflow-wrap: anywhere; }
tr.best td { font-weight: 600; } tr.base td { color: var(--soft); font-style: italic; }
tbody tr:hover { background: var(--panel); }
svg { display: block; } svg .tie { stroke: var(--line); } svg .axis { stroke: var(--soft); stroke-dasharray: 2 2; }
svg .span { stroke: var(--accent); stroke-width: 1.6; } svg circle { fill: var(--accent); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .8rem 0; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; }
figure { margin: 1.2rem 0; break-inside: avoid; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; padding: .4rem; border-radius: 4px; }
.pair { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }
.pair figure { flex: 1 1 22rem; } .pair .wide { flex-basis: 100%; } figcaption { margin-top: .4rem; max-width: 46rem; }
pre { background: var(--panel); padding: .7rem .9rem; overflow-x: auto; font-size: .83rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--soft); font-size: .87rem; }
@media print { body { padding: 0; max-width: none; font-size: 10.5pt; } h2 { break-before: page; }
  h2, h3, caption { break-after: avoid; } tr { break-inside: avoid; } summary { display: none; }
  details::details-content { content-visibility: visible; block-size: auto; } }
"""


def tag(name: str, /, *children: Content | None, **attributes: str) -> Element:
    """Return an element with children and attributes; `kind` is its CSS class.

    >>> tostring(tag("p", "a < b ", tag("b", "&"), kind="soft")).decode()
    '<p class="soft">a &lt; b <b>&amp;</b></p>'
    """
    element = Element(name, {"class" if key == "kind" else key: value for key, value in attributes.items() if value})
    last: Element | None = None
    for child in children:
        if isinstance(child, Element):
            element.append(last := child)
        elif child is not None and last is None:
            element.text = (element.text or "") + display_path(child)
        elif child is not None and last is not None:
            last.tail = (last.tail or "") + display_path(child)
    return element


def table(
    header: Sequence[str], rows: Sequence[Sequence[Content]], *, caption: str = "", kinds: Sequence[str] = ()
) -> Element:
    """Return a table; `kinds` are the CSS classes of its rows."""
    columns = [column_kind([row[i] for row in rows]) for i in range(len(header))]
    head = tag("tr", *(tag("th", name, kind=column) for name, column in zip(header, columns, strict=True)))
    body = [
        tag("tr", *(tag("td", cell, kind=column) for cell, column in zip(row, columns, strict=True)), kind=kind)
        for row, kind in zip(rows, kinds or [""] * len(rows), strict=True)
    ]
    return tag(
        "div", tag("table", tag("caption", caption) if caption else None, tag("thead", head), tag("tbody", *body)),
        kind="scroll",
    )  # fmt: skip


def column_kind(cells: Sequence[Content]) -> str:
    """Return the CSS class of a column: "n" for numbers, "w" for long text that may be wrapped, else "t".

    >>> column_kind(["0.5 ± 0.1", ""]), column_kind(["dog"]), column_kind(["one very long name of a model"])
    ('n', 't', 'w')
    """
    texts = [cell for cell in cells if isinstance(cell, str) and cell]
    if texts and all(text[0] in "0123456789-" for text in texts):
        return "n"
    return "w" if any(len(text) > MAX_LETTERS for text in texts) else "t"


def embed_png(png: bytes, caption: str, *, wide: bool = False) -> Element:
    """Return a figure with an embedded image; a wide one takes the full width."""
    data = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    image = tag("img", src=data, alt=display_path(caption))
    return tag("figure", image, tag("figcaption", caption), kind="wide" if wide else "")


def draw_interval(score: Score, low: float, high: float, marks: Sequence[float] = ()) -> Element:
    """Return a small drawing of a score and its interval on a scale from `low` to `high`; `marks` are baselines."""
    width, height = 130.0, 14.0

    def x_of(value: float) -> str:
        return f"{4 + (width - 8) * min(max((value - low) / ((high - low) or 1), 0), 1):.1f}"

    middle = f"{height / 2:g}"
    parts = [tag("line", x1=x_of(low), x2=x_of(high), y1=middle, y2=middle, kind="tie")]
    parts += [tag("line", x1=x_of(mark), x2=x_of(mark), y1="0", y2=f"{height:g}", kind="axis") for mark in marks]
    if score.low is not None and score.high is not None:
        parts.append(tag("line", x1=x_of(score.low), x2=x_of(score.high), y1=middle, y2=middle, kind="span"))
    parts.append(tag("circle", cx=x_of(score.mean), cy=middle, r="3"))
    return tag("svg", *parts, width=f"{width:g}", height=f"{height:g}", role="img")


def write_page(title: str, body: Sequence[Element]) -> str:
    """Return the HTML of the whole page."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
    )
    style = Element("style")
    style.text = CSS
    head.append(style)
    page = tag("html", head, tag("body", *body), lang="en")
    return f"<!DOCTYPE html>\n{tostring(page, encoding='unicode', method='html')}\n"
