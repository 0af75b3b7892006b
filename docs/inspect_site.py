"""Looks a built site over, without a browser: links, anchors, other hosts, weight, words."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

HEAVIEST = 3_000_000  # bytes of a lesson's page with its pictures
LOADED = {"script": "src", "img": "src", "audio": "src", "source": "src", "iframe": "src"}
LOADED |= {"video": "src", "embed": "src", "object": "data"}
STYLES = ("stylesheet", "icon", "preload", "modulepreload", "preconnect", "dns-prefetch")


@dataclass
class Page(HTMLParser):
    """What one page refers to: links, what it loads, its anchors, images without words."""

    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    wordless: list[str] = field(default_factory=list)
    title: str = ""
    lang: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._in_title = False

    def handle_starttag(self, tag: str, pairs: list[tuple[str, str | None]]) -> None:
        found = dict(pairs)
        if found.get("id"):
            self.anchors.add(found["id"])
        if tag == "a" and found.get("name"):
            self.anchors.add(found["name"])
        if tag == "html":
            self.lang = found.get("lang") or ""
        self._in_title = tag == "title"
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag == "link" and found.get("href") and found.get("rel") in STYLES:
            self.loads.append(found["href"])
        if tag in LOADED and found.get(LOADED[tag]):
            self.loads.append(found[LOADED[tag]])
        if tag == "img" and not (found.get("alt") or "").strip():
            self.wordless.append(found.get("src", "")[:80])
        if tag == "audio" and not (found.get("aria-label") or "").strip():
            self.wordless.append("a sound")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False


def pages(site: Path) -> dict[Path, Page]:
    """Every HTML page below ``site``, read."""
    found = {}
    for file in sorted(site.rglob("*.html")):
        if "_static" not in file.relative_to(site).parts:
            found[file] = Page()
            found[file].feed(file.read_text(encoding="utf-8"))
    return found


def problems(site: Path) -> list[str]:
    """All that is wrong, each with its page; empty when nothing is."""
    read = pages(site)
    if not read:
        return [f"{site} holds no page"]
    found = []
    for file, page in read.items():
        name = file.relative_to(site).as_posix()
        weight = file.stat().st_size
        for target in page.loads:
            if target.startswith("data:"):
                continue
            if urllib.parse.urlsplit(target).netloc:
                found.append(f"{name} loads {target} from another host")
            elif (wanted := _file(file, target)) and not wanted.is_file():
                found.append(f"{name} loads {target}, which is not there")
            elif wanted and "figures" in wanted.parts:
                weight += wanted.stat().st_size
        if name.startswith("lessons/") and weight > HEAVIEST:
            found.append(f"{name} weighs {weight / 1e6:.1f} MB with its pictures")
        found += [f"{name} has no words for {what}" for what in page.wordless]
        if not page.title.strip() or not page.lang:
            found.append(f"{name} lacks a title or a language")
        for target in page.links:
            found += [f"{name} links to {target}, {why}" for why in _broken(file, target, read)]
    return sorted(set(found))


def _file(page: Path, target: str) -> Path | None:
    path = urllib.parse.unquote(urllib.parse.urlsplit(target).path)
    return (page.parent / path).resolve() if path else None


def _broken(page: Path, target: str, read: dict[Path, Page]) -> list[str]:
    parts = urllib.parse.urlsplit(target)
    if parts.scheme in ("http", "https"):
        return [] if parts.netloc and " " not in target else ["which is no address"]
    if parts.scheme or target == "#":
        return []
    wanted = _file(page, target) or page.resolve()
    known = {p.resolve(): q for p, q in read.items()}
    if wanted.is_dir():
        wanted /= "index.html"
    if not wanted.is_file():
        return ["which is not there"]
    anchor = urllib.parse.unquote(parts.fragment)
    if anchor and wanted in known and anchor not in known[wanted].anchors:
        return ["where there is no such place"]
    return []
