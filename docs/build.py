"""Builds the book, offline: python docs/build.py (or `make book`).

Reads the executed solutions, never runs one. Warnings are errors, every link within the book is
followed, and pages that are too heavy or ask another host for anything are refused.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import inspect_site
from stage import DOCS, ROOT, stage


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "book")
    parser.add_argument(
        "--repository",
        default=os.environ.get("COURSE_REPOSITORY") or os.environ.get("GITHUB_REPOSITORY", ""),
        help="owner/name on GitHub, for links to Colab, Binder and the source",
    )
    options = parser.parse_args()
    start = time.monotonic()
    out = options.out.resolve()
    source, site = out / "source", out / "html"
    stage(source, options.repository)
    shutil.rmtree(site, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    command += ["-j", "auto", "-c", str(DOCS), "-d", str(out / "doctrees")]
    command += ["-D", f"html_static_path={source / '_static'}"]
    env = {**os.environ, "COURSE_REPOSITORY": options.repository}
    done = subprocess.run([*command, str(source), str(site)], env=env)
    if done.returncode:
        return done.returncode
    (site / ".nojekyll").touch()
    found = inspect_site.problems(site)
    for text in found:
        print(f"✗ {text}")
    if not found:
        pages = inspect_site.pages(site)
        print(
            f"✓ {site / 'index.html'}: {len(pages)} pages in {time.monotonic() - start:.0f} s, "
            "every link within followed"
        )
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
