"""Write pages of figures, BENCHMARKS.md by default. Each script replaces the part under its own heading."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "BENCHMARKS.md"


def write_part(heading: str, text: str, page: Path = PAGE) -> None:
    """Replace the text under `# heading`."""
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    page.write_text(replace_part(before, heading, text), encoding="utf-8")


def replace_part(page: str, heading: str, text: str) -> str:
    r"""Return a page with one part replaced, or added at the end.

    >>> replace_part("# A\n\nold\n\n# B\n\nkept\n", "A", "new")
    '# A\n\nnew\n\n# B\n\nkept\n'
    """
    parts = {part.split("\n")[0]: part.strip() for part in re.split(r"^# ", page, flags=re.MULTILINE) if part.strip()}
    parts[heading] = f"{heading}\n\n{text.strip()}"
    return "\n\n".join(f"# {part}" for part in parts.values()) + "\n"


def commit() -> str:
    """Return the commit of the checkout, with `-dirty` if files other than pages like these differ, or "unknown"."""
    try:
        name, changed = (
            subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()
            for words in (["describe", "--always"], ["status", "--porcelain", "-uno", "--", ":!*.md"])
        )
    except OSError:
        return "unknown"
    return f"{name}{'-dirty' if changed else ''}" if name else "unknown"
