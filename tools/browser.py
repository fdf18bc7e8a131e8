"""Find a Chromium for the site's tests; where there is none, install it if this machine lets us, else say how.

    python -m tools.browser            (prints the path of the browser)
"""

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
HOW = (
    "The site's tests walk it in a real browser, and none was found. Install one: `apt install chromium` (Debian, "
    "Ubuntu), `brew install --cask chromium` (macOS), or `python -m playwright install --with-deps chromium`; or name "
    "one: CHROMIUM=/path/to/chrome make test-book"
)


def find() -> str | None:
    """The path of a Chromium, or None. CHROMIUM in the environment comes first."""
    if named := os.environ.get("CHROMIUM"):
        return named
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def install() -> None:
    """Install Debian's chromium where this process may: as root, with apt."""
    if not shutil.which("apt-get") or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", "-y", "--no-install-recommends", "chromium"]):
        subprocess.run(command, env=environment, check=False, stdout=subprocess.DEVNULL)


def main() -> None:
    if not find():
        install()
    path = find()
    if path is None:
        sys.exit(HOW)
    print(path)


if __name__ == "__main__":
    main()
