"""The report in headless Chromium: nothing is loaded, nothing is wider than a phone, axe-core finds no fault.

Needs `pip install playwright`, Debian's chromium, and for one test axe-core: `npm install --global axe-core`.
"""

import pathlib
import shutil
import subprocess

import pytest
from stored_runs import write_grid

from distill_jax.config import ReportConfig
from distill_jax.experiments.report.main import report

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright, which drives the browser")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


def axe_core():
    """The text of axe-core, which npm has; None where it is not installed."""
    if shutil.which("npm") is None:
        return None
    root = subprocess.run(
        ["npm", "root", "--global"], capture_output=True, text=True, check=True
    ).stdout.strip()
    path = pathlib.Path(root) / "axe-core/axe.min.js"
    return path.read_text() if path.exists() else None


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    runs = tuple(write_grid(folder / "runs", widths=(8, 16)))
    return report(ReportConfig(runs=runs, output=str(folder / "out")))[0].as_uri()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(browser, address, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    told, asked = [], []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    assert told == []
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for drawn in page.locator("figure svg").all():
        box = drawn.bounding_box()
        assert box["width"] > 250 and box["height"] > 150 and box["x"] + box["width"] <= width
    assert page.locator("figure svg").count() == 8
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(13, 17, 23)")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_core_finds_no_fault(browser, address, scheme):
    code = axe_core()
    if code is None:
        pytest.skip("no axe-core: npm install --global axe-core")
    context = browser.new_context(bypass_csp=True, color_scheme=scheme)  # the page allows no scripts
    page = context.new_page()
    page.goto(address)
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    page.add_script_tag(content=code)
    found = page.evaluate("axe.run().then(result => result.violations)")
    assert [(fault["id"], fault["nodes"][0]["html"]) for fault in found] == []
    context.close()
