"""A headless Chromium for tests of pages; tests skip with the reason where there is none."""

import json
import shutil
from contextlib import contextmanager

import pytest

SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL without a graphics card
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1300,900",
)


@contextmanager
def chromium(profile):
    """A driver with an empty profile, that logs its console and its network."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("no Chromium: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    try:
        opened.set_page_load_timeout(120)
        opened.set_script_timeout(120)
        yield opened
    finally:
        opened.quit()


def open_page(browser, path):
    """Open a file and wait until its plots are drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(path.as_uri())
    WebDriverWait(browser, 120).until(
        lambda driver: driver.execute_script("return document.documentElement.dataset.ready") == "yes"
    )


def wait_for(browser, condition):
    """Wait until a condition of the driver holds."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 60).until(condition)


def requests(browser):
    """Addresses that the page asked for so far, other than its own data."""
    found = []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            found.append(message["params"]["request"]["url"])
    own = ("data:", "blob:", "chrome:", "chrome-untrusted:")  # the last two are the browser's own first page
    return [url for url in found if not url.startswith(own)]


def complaints(browser):
    """Errors of the console so far."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
