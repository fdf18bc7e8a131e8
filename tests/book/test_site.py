"""Every page of the built site, walked in a real browser: as a web site under a sub-path, and as plain files."""

import functools
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from tools.browser import HOW, find
from tools.site import BUILD, HTML

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[2]
PREFIX = "some/course"  # a site must work below any path
WIDTHS = {"phone": 390, "desktop": 1280}
MEGABYTE = 2**20


@pytest.fixture(scope="session")
def site() -> Path:
    done = subprocess.run([sys.executable, "-m", "tools.site", "--committed"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"the site does not build:\n{(done.stdout + done.stderr)[-4000:]}"
    return HTML


@pytest.fixture(scope="session")
def address(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("served")
    (root / PREFIX).parent.mkdir(parents=True)
    (root / PREFIX).symlink_to(site, target_is_directory=True)
    handler = functools.partial(Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{PREFIX}"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the test reports what fails."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = find()
    if path is None:
        pytest.skip(HOW)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": WIDTHS["desktop"], "height": 900}, reduced_motion="reduce")
    yield context.new_page()
    context.close()


class Witness:
    """What a page asked for and complained about."""

    def __init__(self, page: Page, home: str) -> None:
        self.trouble: list[str] = []
        self.bytes, self.shared = 0, 0  # the page's own; the theme's scripts, styles and fonts, which a browser fetches once
        page.on("console", lambda message: self.note(message.type == "error", f"console: {message.text}"))
        page.on("pageerror", lambda error: self.note(True, f"error: {error}"))
        page.on("requestfailed", lambda request: self.note(True, f"failed: {request.url}"))
        page.on("request", lambda request: self.note(not request.url.startswith((home, "data:", "blob:")), f"outside: {request.url}"))
        page.on("response", self.count)

    def note(self, bad: bool, text: str) -> None:
        if bad:
            self.trouble.append(text)

    def count(self, response) -> None:
        self.note(response.status >= 400, f"{response.status}: {response.url}")
        size = int(response.headers.get("content-length", 0))
        if "/_static/" in response.url:
            self.shared += size
        else:
            self.bytes += size


def names(site: Path) -> list[str]:
    """Every page, the search and the generated index aside."""
    found = [path.relative_to(site).as_posix() for path in site.rglob("*.html")]
    return sorted(name for name in found if not name.startswith(("_static", "genindex", "search")))


def settle(page: Page) -> None:
    page.wait_for_load_state("networkidle")
    page.evaluate("async () => { if (window.MathJax?.startup?.promise) await MathJax.startup.promise; }")


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{item['id']}: {item['help']}: {node['target']}" for item in found for node in item["nodes"][:3]]


def test_every_page_is_whole_and_accessible(site: Path, address: str, page: Page) -> None:
    trouble: list[str] = []
    for name in names(site):
        witness = Witness(page, address)
        page.goto(f"{address}/{name}")
        settle(page)
        found = list(witness.trouble)
        for mode in ("light", "dark"):
            page.evaluate("mode => { document.documentElement.dataset.theme = mode; }", mode)
            found += [f"{mode}: {violation}" for violation in violations(page)]
        if witness.bytes > 3 * MEGABYTE:
            found.append(f"weighs {witness.bytes / MEGABYTE:.1f} MB; at most 3")
        if witness.shared > 4 * MEGABYTE:
            found.append(f"asks for {witness.shared / MEGABYTE:.1f} MB of the site's shared files; at most 4")
        trouble += [f"{name}: {text}" for text in found]
        page.context.clear_cookies()
    assert not trouble, "\n".join(trouble[:60])


FIGURES = """() => [...document.querySelectorAll('main img')].map(image => {
  const box = image.getBoundingClientRect();
  return {source: image.getAttribute('src').slice(0, 80), alt: image.alt, whole: image.complete && image.naturalWidth > 0,
          shown: box.width > 20 && box.height > 20 || image.closest('details:not([open]), .toggle-hidden, .dropdown') !== null,
          inside: box.right <= window.innerWidth + 1 || image.closest('.cell_output, details') !== null};
})"""


@pytest.mark.parametrize("width", WIDTHS)
def test_every_figure_is_shown_with_words_beside_it(site: Path, address: str, page: Page, width: str) -> None:
    page.set_viewport_size({"width": WIDTHS[width], "height": 900})
    trouble = []
    for name in names(site):
        page.goto(f"{address}/{name}")
        settle(page)
        for figure in page.evaluate(FIGURES):
            trouble += [f"{name}: {figure['source']}: not {what}" for what in ("alt", "whole", "shown", "inside") if not figure[what]]
        if page.evaluate("document.documentElement.scrollWidth > window.innerWidth + 1"):
            trouble.append(f"{name}: scrolls sideways at {WIDTHS[width]} px")
    assert not trouble, "\n".join(trouble[:60])


def test_works_as_plain_files(site: Path, page: Page) -> None:
    home = site.as_uri()
    witness = Witness(page, home)
    for name in names(site):
        page.goto(f"{home}/{name}")
        settle(page)
    assert not witness.trouble, "\n".join(witness.trouble[:20])


def test_search_finds_a_word_of_the_glossary(address: str, page: Page) -> None:
    page.goto(f"{address}/search.html?q=karras")
    page.wait_for_selector("#search-results li a", timeout=10_000)
    assert page.locator("#search-results li a").count() > 0


def test_a_lesson_marked_as_done_stays_so_and_shows_on_the_home_page(address: str, page: Page) -> None:
    page.goto(f"{address}/notebooks/38_0_ladder.html")
    button = page.locator("button.lesson-progress")
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    page.goto(f"{address}/index.html")
    done = page.locator("main table a", has=page.locator(".lesson-done"))
    assert done.count() == 1 and "38.0" in (done.text_content() or "") and "(done)" in (done.text_content() or "")
    page.goto(f"{address}/notebooks/38_0_ladder.html")
    button.click()
    page.reload()
    assert button.get_attribute("aria-pressed") == "false" and page.locator(".lesson-done").count() == 0


def test_a_slider_moves_its_frames_by_keyboard_without_a_kernel(address: str, page: Page) -> None:
    page.goto(f"{address}/notebooks/38_1a_pipeline_to_parts.html")
    settle(page)
    slider = page.locator("figure input[type=range]").first
    figure = page.locator("figure", has=page.locator("input[type=range]")).first
    before = figure.locator("img").evaluate("image => image.style.marginLeft"), slider.get_attribute("aria-valuetext")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    after = figure.locator("img").evaluate("image => image.style.marginLeft"), slider.get_attribute("aria-valuetext")
    assert before[0] != after[0] and before[1] != after[1] == figure.locator("output").text_content()


SHIFT = """() => new Promise(done => {
  let total = 0;
  new PerformanceObserver(list => { for (const entry of list.getEntries()) if (!entry.hadRecentInput) total += entry.value; })
    .observe({type: "layout-shift", buffered: true});
  setTimeout(() => done(total), 300);
})"""


def test_pages_do_not_jump_while_they_load(site: Path, address: str, page: Page) -> None:
    shifts = {}
    for name in names(site):
        page.goto(f"{address}/{name}")
        settle(page)
        shifts[name] = page.evaluate(SHIFT)
        late = page.locator('img:not([src^="data:"]):not([width][height])')  # those that come after the page, without a size
        assert late.count() == 0, f"{name}: a picture without its size moves what is below it"
    assert not {name: shift for name, shift in shifts.items() if shift > 0.1}  # what web.dev calls good


def test_a_printed_lesson_keeps_its_words_and_leaves_out_the_navigation(address: str, page: Page) -> None:
    page.goto(f"{address}/notebooks/38_1a_pipeline_to_parts.html")
    settle(page)
    page.emulate_media(media="print")
    assert not page.locator(".bd-sidebar-primary").first.is_visible()
    assert page.locator("main h1").first.is_visible() and page.locator("main figure img").first.is_visible()


def test_dark_mode_can_be_chosen(address: str, page: Page) -> None:
    page.goto(f"{address}/index.html")
    settle(page)
    before = page.evaluate("document.documentElement.dataset.theme")
    page.locator(".theme-switch-button").first.click()
    page.locator(".theme-switch-button").first.click()
    assert page.evaluate("document.documentElement.dataset.theme") != before or page.evaluate(
        "document.documentElement.dataset.mode"
    ) in ("light", "dark")


def test_links_inside_the_site_lead_somewhere(site: Path, address: str, page: Page) -> None:
    broken = []
    for name in names(site):
        page.goto(f"{address}/{name}")
        for link in page.eval_on_selector_all("main a[href]", "links => links.map(link => link.href)"):
            target, _, anchor = link.removeprefix(address + "/").partition("#")
            if not link.startswith(address) or "?" in target:
                continue
            path = site / target
            if not path.exists():
                broken.append(f"{name} -> {target}")
            elif anchor and path.suffix == ".html" and f'id="{anchor}"' not in path.read_text("utf-8"):
                broken.append(f"{name} -> {target}#{anchor}")
    assert not broken, "\n".join(sorted(set(broken))[:40])


def test_the_tree_outside_the_build_folder_is_left_alone() -> None:
    assert BUILD == ROOT / "book" / "_build"
    ignored = subprocess.run(["git", "check-ignore", "-q", str(BUILD)], cwd=ROOT)
    assert ignored.returncode == 0
