"""The report in a real browser: from file://, without a network, with everything in it that moves."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from brachy.output.report import write_post_implant_report, write_report
from tests.browser import chromium, complaints, open_page, requests, wait_for
from tests.report_cases import HOSTILE, QUOTED, hostile_case, report_inputs, report_plan, verification

pytestmark = pytest.mark.slow

SHOWN = "return [...document.querySelectorAll('#slices .cut')].findIndex((cut) => !cut.hidden)"
TABLE = "return document.querySelector('#hu feFuncR').getAttribute('tableValues')"
CAMERA = """
    const camera = document.querySelector('#scene .js-plotly-plot')._fullLayout.scene._scene.getCamera();
    return [camera.eye.x, camera.eye.y, camera.eye.z];
"""


def plan_report(file):
    plan, case = report_plan(), hostile_case()
    return write_report(plan, case, file, **report_inputs(plan, case))


def verification_report(file):
    record, case, found, planned = verification()
    return write_post_implant_report(record, case, found, file, planned=planned)


@pytest.fixture(scope="module", params=[plan_report, verification_report])
def opened(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    file = request.param(folder / "report.html")
    with chromium(folder / "profile") as browser:
        open_page(browser, file)
        yield browser


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"), dtype=float)


def press(browser, *keys):
    from selenium.webdriver import ActionChains

    chain = ActionChains(browser)
    for key in keys:
        chain.send_keys(key)
    chain.perform()


def test_opens_without_error_and_without_network(opened):
    assert complaints(opened) == []
    asked = requests(opened)
    assert len(asked) == 1
    assert asked[0].startswith("file://")


def test_names_are_shown_as_text(opened):
    text = opened.execute_script("return document.body.innerText")
    assert HOSTILE in text
    assert QUOTED in text
    names = opened.execute_script(
        "return [...document.querySelectorAll('#dvh .legendtext')].map((t) => t.textContent)"
    )
    assert any(name.startswith(HOSTILE) for name in names)


def test_slices_step_with_keyboard_and_slider(opened):
    from selenium.webdriver.common.keys import Keys

    count = opened.execute_script("return document.querySelectorAll('#slices .cut').length")
    assert count > 5
    start = opened.execute_script(SHOWN)
    press(opened, Keys.ARROW_RIGHT)
    assert opened.execute_script(SHOWN) == start + 1
    press(opened, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert opened.execute_script(SHOWN) == start - 1
    slider = opened.find_element("css selector", "#slices .step input")
    slider.send_keys(Keys.HOME)
    assert opened.execute_script(SHOWN) == 0
    slider.send_keys(Keys.END)
    assert opened.execute_script(SHOWN) == count - 1
    shown = opened.execute_script("return document.querySelector('#slices .step output').textContent")
    assert shown == f"{count} of {count}"


def test_window_and_layers_change_the_picture(opened):
    stage = opened.find_element("css selector", "#slices .stage")
    before_table, before = opened.execute_script(TABLE), pixels(stage.screenshot_as_png)
    opened.execute_script("document.querySelector('#slices [data-window=\"2\"]').click()")
    assert opened.execute_script(TABLE) != before_table
    # level 450 HU, width 1500 HU: the step that stands for 450 HU is half grey
    level = opened.execute_script("return document.querySelector('#slices .level').value")
    assert level == "450"
    after = pixels(stage.screenshot_as_png)
    assert np.abs(after - before).mean() > 1.0
    box = opened.find_element("css selector", "#slices [data-layer='structures']")
    box.click()
    shown = (
        "return getComputedStyle(document.querySelector('#slices .cut:not([hidden]) .structures')).display"
    )
    assert opened.execute_script(shown) == "none"
    box.click()
    assert opened.execute_script(shown) != "none"


def test_the_scene_turns(opened):
    from selenium.webdriver import ActionChains

    scene = opened.find_element("css selector", "#scene canvas")
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", scene)
    before = opened.execute_script(CAMERA)
    ActionChains(opened).move_to_element(scene).click_and_hold().move_by_offset(120, 40).release().perform()
    wait_for(opened, lambda driver: np.abs(np.subtract(driver.execute_script(CAMERA), before)).max() > 0.05)


def test_nothing_is_blank(opened):
    assert pixels(opened.get_screenshot_as_png()).std() > 10
    still = opened.execute_script("return document.querySelector('#scene img').src")
    assert pixels(base64.b64decode(still.split(",", 1)[1])).std() > 5


def test_prints_on_a4_with_every_slice_that_has_seeds(opened):
    printed = opened.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
    content = base64.b64decode(printed["data"])
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", content)
    a4 = {(595, 842), (842, 595)}
    assert {(round(float(x)), round(float(y))) for x, y in boxes} <= a4
    assert len(boxes) >= 5


def test_still_without_error_or_request(opened):
    assert complaints(opened) == []
    assert set(requests(opened)) <= {opened.current_url}  # printing may ask for the page itself once more
