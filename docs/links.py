"""Relative links of Markdown files, made to lead where their target is in the book.

An image that is a sound (.wav) gets a player, named by its words.

A target that is no page of the book leads to the repository where its public address is known
(``owner/name``); else its words stay, with the path beside them.
"""

from __future__ import annotations

import html
import os
import posixpath
import re
from dataclasses import dataclass, field

LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+(?:\([^()]*\)[^()\s]*)*)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.M | re.S)
CODE = re.compile(r"`[^`\n]+`")


@dataclass
class Links:
    """pages: path in the repository -> page of the book, without ending. media: pictures and
    sounds that are used."""

    pages: dict[str, str]
    repository: str = ""
    media: set[str] = field(default_factory=set)

    def rewrite(self, text: str, path: str, page: str) -> str:
        """``text`` of the file ``path`` as it has to stand on ``page``."""
        kept: list[str] = []

        def keep(match: re.Match) -> str:
            kept.append(match[0])
            return f"\0{len(kept) - 1}\0"

        text = FENCE.sub(keep, text)
        text = LINK.sub(lambda m: self._link(m, path, page), text)
        return re.sub(r"\0(\d+)\0", lambda m: kept[int(m[1])], text)

    def _link(self, match: re.Match, path: str, page: str) -> str:
        picture, words, target = match.groups()
        if re.match(r"[a-z]+:|#|/", target):
            return match[0]
        file, _, anchor = target.partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(path), file))
        here = posixpath.dirname(page) or "."
        if picture:
            self.media.add(file)
            source = posixpath.relpath("_static/" + file, here)
            if file.endswith(".wav"):
                named = f'aria-label="{html.escape(words)}" src="{source}"'
                return f'<audio controls preload="none" {named}></audio>'
            return f"![{words}]({source})"
        if file in self.pages:
            to = posixpath.relpath(self.pages[file], here)
            ending = ".ipynb" if file.endswith(".ipynb") else ".md"
            return f"[{words}]({to}{ending}{'#' + anchor if anchor else ''})"
        if self.repository:
            return f"[{words}]({self.address(file)}{'#' + anchor if anchor else ''})"
        bare = words.replace("`", "")
        return words if bare == file else f"{words} (`{file}`)"

    def address(self, file: str) -> str:
        """Where ``file`` is to be seen in public."""
        kind = "blob" if os.path.splitext(file)[1] or file.isupper() else "tree"
        return f"https://github.com/{self.repository}/{kind}/main/{file}"
