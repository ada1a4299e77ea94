"""Filler text from Debian packages: permissively licensed documentation, fetched with apt.

train: python3.11-doc (PSF licence) and postgresql-doc-15 (PostgreSQL licence).
held out, for evaluation only: sqlite3-doc (public domain).
"""

import argparse
import html
import pathlib
import random
import re
import subprocess
import tempfile

SOURCES = {
    "train": [("python3.11-doc", "_sources/**/*.txt"), ("postgresql-doc-15", "**/*.html")],
    "held_out": [("sqlite3-doc", "**/*.html")],
}


def pages_of(package: str, pattern: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True)
        archive = next(pathlib.Path(folder).glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
        return [
            plain(page.read_text(encoding="utf-8", errors="replace"), page.suffix == ".html")
            for page in sorted(pathlib.Path(folder).rglob(pattern))
            if page.is_file()
        ]


def plain(text: str, is_html: bool) -> str:
    if is_html:
        text = re.sub(r"<(script|style).*?</\1>", "", text, flags=re.S)
        text = html.unescape(re.sub(r"<[^>]+>", " ", text))
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r"[=\-~*^#\"+]{4,}", "", text)
    return re.sub(r"\n\s*\n\s*", "\n\n", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for split, sources in SOURCES.items():
        pages = [page for source in sources for page in pages_of(*source)]
        random.Random(0).shuffle(pages)
        (out / f"{split}.txt").write_text("\n".join(pages), encoding="utf-8")
        print(split, sum(map(len, pages)), "characters")


if __name__ == "__main__":
    main()
