"""A picture of every page of the built book, for a person to look at: python ci/screenshots.py [HTML] [OUT].

Each page whole: on a laptop in daylight (1280 pixels) and on a phone at night (390). Needs the extra
`bcebook[browser]` and a Chromium. HTML: book/_build/html; OUT: book/_build/screens.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from bcebook.paths import REPOSITORY


def main(html: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    with sync_playwright() as program:
        browser = program.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for page in sorted(html.glob("*.html")):
            for width, scheme in ((1280, "light"), (390, "dark")):
                view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                view.goto(page.as_uri(), wait_until="load")
                view.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
                view.wait_for_function("[...document.images].every(image => image.complete)")
                view.wait_for_timeout(500)  # formulas
                view.screenshot(path=out / f"{page.stem}-{width}-{scheme}.png", full_page=True)
                view.close()
        browser.close()
    print(f"{len(list(out.glob('*.png')))} pictures in {out}")


if __name__ == "__main__":
    given = [Path(text).resolve() for text in sys.argv[1:]]
    built = REPOSITORY / "book" / "_build"
    main(given[0] if given else built / "html", given[1] if len(given) > 1 else built / "screens")
