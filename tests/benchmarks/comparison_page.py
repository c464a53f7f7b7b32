"""Run the tutorial `batch` and take a picture of the top of its page, for the README.

    python tests/benchmarks/comparison_page.py            # a minute on two idle cores
    python tests/benchmarks/comparison_page.py INDEX.html # of a page that is there

Needs a Chromium.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PICTURE = Path(__file__).with_name("comparison_page.png")
TOP, BOTTOM = 136, 1150  # of the page in pixels: from the title to below the forest plot
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def main(page=None):
    """Write `PICTURE`."""
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        if page is None:
            command = ["tabular-trainers", "notebook", "batch", "-o", str(scratch / "batch.ipynb")]
            subprocess.run([*command, "-p", f"out={scratch / 'run'}"], check=True)
            page = scratch / "run" / "batch" / "index.html"
        options = (
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--hide-scrollbars", "--window-size=1100,1600",
        )  # fmt: skip
        shot = scratch / "page.png"
        subprocess.run(
            [browser, *options, f"--user-data-dir={scratch / 'profile'}", f"--screenshot={shot}",
             Path(page).resolve().as_uri()],
            check=True, capture_output=True,
        )  # fmt: skip
        with Image.open(shot) as image:
            top = image.convert("RGB").crop((0, TOP, 1100, BOTTOM))
    top.quantize(64).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
