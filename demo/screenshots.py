"""`demo/screenshots.py DIRECTORY`: the pictures of the documentation, as PNG, of a private instance with demo data."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import data
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
WIDTH, HEIGHT = 1280, 800
WARM = 180_000  # milliseconds until half a year's certificates have their OCSP responses
SHOTS = {  # file → page, and whether it is dark
    "overview.png": ("/dashboard/", False),
    "service.png": ("/dashboard/services/payroll-api/", True),
    "certificate.png": ("/dashboard/certificates/?q=payroll-api-1.internal", False),
}


def main(directory: Path) -> None:
    """Make all of them."""
    with tempfile.TemporaryDirectory() as work, _instance(state := Path(work) / "state") as address:
        session = _session(state)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=_chromium(), args=["--no-sandbox"])
            visitor = browser.new_context(ignore_https_errors=True, viewport={"width": WIDTH, "height": HEIGHT})
            visitor.add_cookies([{**session, "url": address}])
            _shoot_all(visitor.new_page(), address, directory)
            browser.close()


def _shoot_all(page: Page, address: str, directory: Path) -> None:
    page.goto(f"{address}/dashboard/")
    page.wait_for_selector(".health:not(:has(.bad)) >> text=good until", timeout=WARM)  # it looks every 10 s itself
    for name, (path, is_dark) in SHOTS.items():
        _shoot(page, address + path, is_dark, directory / name)
        print(directory / name)


def _chromium() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        sys.exit("no chromium on the PATH: apt-get install chromium")
    return found


@contextmanager
def _instance(state: Path) -> Iterator[str]:
    """Its address, while it runs."""
    subprocess.run([sys.executable, ROOT / "demo" / "data.py", state], check=True)
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        https, http = one.getsockname()[1], other.getsockname()[1]
    command = [Path(sys.executable).parent / "quicklime", "up", "--state", state, "--https-port", str(https), "--http-port", str(http)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        if not any("openssl verify" in line for line in process.stdout):
            sys.exit("the instance did not start")
        yield f"https://localhost:{https}"
    finally:
        process.terminate()
        process.wait()


def _session(state: Path) -> dict[str, str]:
    """Of the operator, without a password."""
    data.open_state(state)
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client()
    client.force_login(User.objects.get(username="operator"))
    return {"name": settings.SESSION_COOKIE_NAME, "value": client.cookies[settings.SESSION_COOKIE_NAME].value}


def _shoot(page: Page, url: str, is_dark: bool, file: Path) -> None:
    """The page, or of a list that was searched the first one found; once nothing is loading any more."""
    page.emulate_media(color_scheme="dark" if is_dark else "light")
    page.goto(url)
    if "?q=" in url:
        page.click("table.list tbody th a")
        page.wait_for_selector("#status")
    page.screenshot(path=file, animations="disabled")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else os.curdir).absolute())
