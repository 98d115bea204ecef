"""Headless Chromium over its debugging pipe: opens a page, tells what it asked for and what stands on it.

with Browser() as browser:
    browser.open(path.as_uri())
    browser.text("body")
    browser.click("#next")
    browser.press("Enter")
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60.0  # seconds for one answer of the browser
KEYS = {"Enter": 13, "Backspace": 8, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}  # and their codes in Windows


class Browser:
    """requests: every address that the page or a frame in it asked for; dialogs: messages of alert() and the like."""

    def __init__(self, size: tuple[int, int] = (1280, 1600)):
        program = next(filter(None, map(shutil.which, NAMES)), None)
        assert program, "these tests open pages in Chromium, which is not there; apt-get install chromium"
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        self._profile = tempfile.mkdtemp()
        self._numbers = itertools.count(1)
        self._events: list[dict] = []
        self._replies: dict[int, dict] = {}
        self._inside: list[str] = []  # sessions of pages inside the page, where they have a process of their own
        self._rest = b""
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars"]
        options += [
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--host-resolver-rules=MAP * ~NOTFOUND",
        ]
        options += [f"--user-data-dir={self._profile}", f"--window-size={size[0]},{size[1]}", "about:blank"]

        def as_three_and_four():  # the browser reads its orders there
            in_copy, out_copy = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(in_copy, 3)
            os.dup2(out_copy, 4)

        self._process = subprocess.Popen(
            [program, *options], close_fds=False, preexec_fn=as_three_and_four, stderr=subprocess.DEVNULL
        )
        os.close(theirs_in)
        os.close(theirs_out)
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.ask(f"{domain}.enable")
        self.ask("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=True, flatten=True)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(OSError, AssertionError):
            self._ask("Browser.close")
        self._process.wait(timeout=PATIENCE)
        os.close(self._in)
        os.close(self._out)
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, address: str) -> None:
        """Loads a page and waits until it is there."""
        self.ask("Page.navigate", url=address)
        self._until("Page.loadEventFired")

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise's when it is kept."""
        found = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def reload(self) -> None:
        self.ask("Page.reload")
        self._until("Page.loadEventFired")

    def click(self, selector: str) -> None:
        """A click of the mouse in the middle of an element."""
        where = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{where}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        box = self.run(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({where}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def press(self, key: str) -> None:
        """One key: a character, or one of KEYS."""
        code = KEYS.get(key, ord(key.upper()[0]))
        text = {"Enter": "\r"}.get(key, "" if key in KEYS else key)
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, text=text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def write(self, text: str) -> None:
        """Text where the cursor is, as an input method gives it."""
        self.ask("Input.insertText", text=text)

    def save(self, selector: str, folder: Path) -> None:
        """A click on what downloads a file; it is in the folder, under its own name, when this returns."""
        self._ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder), eventsEnabled=True)
        self.click(selector)
        self._until("Browser.downloadProgress", state="completed")

    def wait_for(self, selector: str) -> None:
        """Until an element is in the page."""
        self.wait_until(f"document.querySelector({json.dumps(selector)})")

    def wait_until(self, condition: str) -> None:
        """Until an expression of the page is true."""
        look = f"const look = () => ({condition}) ? done(1) : requestAnimationFrame(look)"
        self.run(f"new Promise(done => {{ {look}; look() }})")

    def text(self, selector: str) -> str:
        """The visible text of the first such element."""
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def frames(self) -> list[str]:
        """The visible text of each page inside the page, wherever it came from."""
        seen = "document.body ? document.body.innerText : ''"
        inside = self.ask("Page.getFrameTree")["frameTree"].get("childFrames", [])
        texts = []
        for frame in inside:
            world = self.ask("Page.createIsolatedWorld", frameId=frame["frame"]["id"])["executionContextId"]
            texts.append(self.ask("Runtime.evaluate", expression=seen, contextId=world)["result"]["value"])
        apart = [self._ask("Runtime.evaluate", session, expression=seen) for session in self._inside]
        return texts + [found["result"]["value"] for found in apart]

    def picture(self, path: Path) -> Path:
        """A screenshot."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", captureBeyondViewport=False)["data"]))
        return path

    def ask(self, method: str, **given: Any) -> dict:
        return self._ask(method, self._session, **given)

    def _ask(self, method: str, session: str | None = None, **given: Any) -> dict:
        number = self._order(method, session, **given)
        while number not in self._replies:
            self._take(self._read())
        reply = self._replies.pop(number)
        assert "error" not in reply, (method, reply)
        return reply["result"]

    def _order(self, method: str, session: str | None, **given: Any) -> int:
        number = next(self._numbers)
        order = {"id": number, "method": method, "params": given} | ({"sessionId": session} if session else {})
        os.write(self._out, json.dumps(order).encode() + b"\0")
        return number

    def _until(self, event: str, **given: Any) -> None:
        while not any(m["method"] == event and given.items() <= m["params"].items() for m in self._events):
            self._take(self._read())
        self._events.clear()

    def _take(self, message: dict) -> None:
        if "method" not in message:
            self._replies[message["id"]] = message
            return
        self._events.append(message)
        method, given = message["method"], message["params"]
        if method == "Network.requestWillBeSent":
            self.requests.append(given["request"]["url"])
        if method == "Page.javascriptDialogOpening":
            self.dialogs.append(given["message"])
        if method == "Target.attachedToTarget":  # it waits for us, so that no request of it is missed
            self._inside += [given["sessionId"]] if given["targetInfo"]["type"] == "iframe" else []
            for order in ("Network.enable", "Page.enable", "Runtime.runIfWaitingForDebugger"):
                self._order(order, given["sessionId"])
        if method == "Target.detachedFromTarget" and given["sessionId"] in self._inside:
            self._inside.remove(given["sessionId"])

    def _read(self) -> dict:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], PATIENCE)
            assert ready, "the browser does not answer"
            got = os.read(self._in, 1 << 20)
            assert got, "the browser has ended"
            self._rest += got
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)
