"""A student in a real JupyterLab: run everything, move a slider, answer an exercise wrong, then right.

Needs Debian's `chromium` (or another Chromium on the PATH); skips with a reason where there is none. With axe-core's
file named in LABKIT_AXE, its rules are run over what the notebook shows.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

from labkit.course import copies, notebook_form

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NAME = "03_non_maximum_suppression.ipynb"
TOKEN = "only-for-this-test"
AXE = os.environ.get("LABKIT_AXE")  # axe.min.js of axe-core: npm install axe-core
SECONDS = 600  # for the whole notebook, and for each answer; it ends what would never end

# What JupyterLab would otherwise ask a newcomer, or hide from the test.
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false"},
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is drawn, also those out of sight
}
# What a screen reader says by its name. The handle of a slider is not here: ipywidgets gives it none, and takes none;
# the slider's description stands before it.
NAMED = {"image", "button", "checkbox", "combobox", "radio", "textbox", "listbox"}
PANEL = "const panel = window.jupyterapp.shell.currentWidget;"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`labkit lab` on fresh student copies: its address. Everything it writes stays in a folder of its own."""
    tmp_path = tmp_path_factory.mktemp("lab")
    folders = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    environment = os.environ | {f"JUPYTER_{name}": str(tmp_path / name.lower()) for name in folders}
    environment |= {
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"),
    }
    environment.pop("LABKIT_STRICT", None)
    for name, settings in SETTINGS.items():
        file = tmp_path / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))
    (tmp_path / "config_dir").mkdir()
    (tmp_path / "config_dir" / "jupyter_server_config.json").write_text(
        json.dumps(
            {
                "IdentityProvider": {"token": TOKEN},
                "LabApp": {"expose_app_in_browser": True},
            }
        )
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "labkit", "lab", "--no-browser", f"--port={port}"]
    command.append(f"--folder={tmp_path / 'work'}")
    log = tmp_path / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield wait_until_up(f"http://127.0.0.1:{port}", process, log)
        finally:
            process.terminate()
            process.wait(60)


def wait_until_up(address, process, log):
    for _ in range(5 * SECONDS):
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{address}/api/status?token={TOKEN}", timeout=60).close()
        except OSError:
            time.sleep(0.2)
        else:
            return address
    raise AssertionError(f"JupyterLab did not start in ten minutes:\n{log.read_text()}")


@pytest.fixture
def page(server):
    """The notebook open in Chromium with its kernel ready; afterwards, nothing has left this machine."""
    if CHROMIUM is None:
        pytest.skip("needs chromium, and there is none on the PATH")
    from playwright.sync_api import sync_playwright

    asked = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--disable-gpu", "--disable-quic", "--disable-sync"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.set_default_timeout(SECONDS * 1000)
        page.goto(f"{server}/lab/tree/{NAME}?token={TOKEN}")
        page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel")
        page.evaluate(f"async () => {{ {PANEL} await panel.context.ready; await panel.sessionContext.ready }}")
        yield page
        browser.close()
    hosts = {urlsplit(url).hostname for url in asked if urlsplit(url).scheme in ("http", "https", "ws", "wss")}
    assert hosts == {"127.0.0.1"}


def cells(page):
    """The notebook as the browser has it: a list of cells, outputs included."""
    return page.evaluate(f"() => {{ {PANEL} return panel.content.model.toJSON().cells }}")


def answer(page, number, source):
    """Write an exercise's cell, run it and the check after it; the text of the check."""
    page.evaluate(
        f"""async ([number, source]) => {{ {PANEL}
            panel.content.model.cells.get(number).sharedModel.setSource(source);
            for (const index of [number, number + 1]) {{
                panel.content.activeCellIndex = index;
                await window.jupyterapp.commands.execute('notebook:run-cell');
            }}
        }}""",
        [number, source],
    )
    return text_of(cells(page)[number + 1])


def text_of(cell):
    """What a cell has shown, its pictures left out."""
    texts = []
    for output in cell["outputs"]:
        assert output["output_type"] != "error", output
        text = output.get("text") or output.get("data", {}).get("text/plain", "")
        texts.append("".join(text))
    return "".join(texts)


def run_all(page):
    """Runs the notebook to its end."""
    page.set_default_timeout(SECONDS * 1000)
    assert page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")


def spoken(page):
    """Role and name of whatever the cells show that has one of the named roles, from Chromium's accessibility tree."""
    session = page.context.new_cdp_session(page)
    found = []
    for place in range(page.locator(".jp-OutputArea-output").count()):
        output = f"document.querySelectorAll('.jp-OutputArea-output')[{place}]"
        root = session.send("Runtime.evaluate", {"expression": output})["result"]["objectId"]
        nodes = session.send("Accessibility.queryAXTree", {"objectId": root})["nodes"]
        heard = [node for node in nodes if not node["ignored"] and node["role"]["value"] in NAMED]
        found += [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in heard]
    return found


def test_a_server_without_the_token_is_closed(server):
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{server}/api/contents", timeout=60)


def test_a_student_works_through_a_notebook(page):
    solved = notebook_form.read(copies.ROOT / "notebooks" / NAME)
    number = next(number for number, cell in enumerate(solved.cells) if notebook_form.BEGIN_SOLUTION in cell.source)
    run_all(page)

    # Left blank: said so, and the notebook ran on to its end.
    code = [cell for cell in cells(page) if cell["cell_type"] == "code" and cell["source"]]
    assert all(cell["execution_count"] for cell in code)
    assert "✓" not in "".join(text_of(cell) for cell in code[: code.index(cells(page)[number + 1]) + 1])
    name = notebook_form.EXERCISE.search(solved.cells[number].source)[1]
    assert f"is not written yet ({name})" in text_of(cells(page)[number + 1])

    heard = spoken(page)
    assert [role for role, name in heard if not name.strip()] == [], heard
    names = [name for role, name in heard if role == "image"]
    assert len(names) == page.locator(".jp-OutputArea-output img").count() >= 8
    assert sum(name.startswith("the image with the boxes that stay") for name in names) == 1  # the demo
    assert [name for name in names if name in ("", "Image")] == []

    move_a_slider(page)

    # Wrong, then right.
    blank = "".join(cells(page)[number]["source"])
    lines = [
        line.partition("raise NotImplementedError")[0] + "return None" if "raise NotImpl" in line else line
        for line in blank.splitlines()
    ]
    wrong = answer(page, number, "\n".join(lines))
    assert wrong
    assert "✓" not in wrong
    assert "✓" in answer(page, number, solved.cells[number].source)


def move_a_slider(page):
    """Moves the notebook's first slider and waits until the picture beside it is another one."""
    handle = page.locator(".jp-OutputArea .noUi-handle").first
    picture = page.locator(".jp-Cell", has=page.locator(".noUi-handle")).first.locator("img").first
    assert picture.bounding_box()["height"] < 600  # with its sliders it fits a projector's screen
    before = picture.get_attribute("src")
    handle.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(
        """([before]) => {
            const cell = document.querySelector('.noUi-handle').closest('.jp-Cell');
            const picture = cell.querySelector('img');
            return picture && picture.src && picture.src !== before;
        }""",
        arg=[before],
        timeout=SECONDS * 1000,
    )


@pytest.mark.skipif(not AXE, reason="needs axe-core: npm install axe-core, and its axe.min.js named in LABKIT_AXE")
def test_axe_finds_no_fault_in_what_a_notebook_shows(page):
    run_all(page)
    page.add_script_tag(path=AXE)
    found = page.evaluate(
        """() => axe.run({include: ['.jp-OutputArea-output', '.jp-MarkdownOutput']}, {
            runOnly: ['wcag2a', 'wcag2aa'],
            rules: {'aria-input-field-name': {enabled: false}},  // the handles of ipywidgets' sliders, see NAMED
        })"""
    )
    faults = {fault["id"]: [node["html"][:200] for node in fault["nodes"]] for fault in found["violations"]}
    assert faults == {}
    assert len(found["passes"]) > 5
