"""A headless Chromium, driven by the DevTools protocol over a pipe: without a driver of its own, without a port."""

import base64
import contextlib
import json
import os
import select
import subprocess
import time

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=800,700",
    "--remote-debugging-pipe",  # commands come in on descriptor 3, answers leave on 4
)
PATIENCE = 600  # seconds, after which something hangs


class Page:
    """An empty page; `commands` and `answers` are the pipe's ends."""

    def __init__(self, commands, answers):
        self.commands, self.answers = commands, answers
        self.received, self.number, self.session = b"", 0, {}
        (target,) = [row for row in self.ask("Target.getTargets")["targetInfos"] if row["type"] == "page"]
        attached = self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self.session = {"sessionId": attached["sessionId"]}

    def ask(self, method, **parameters):
        """The result of a method of the protocol."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters, **self.session}
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.next_message()
            if answer.get("id") == self.number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def next_message(self):
        """An answer, or an event."""
        while b"\0" not in self.received:
            assert select.select([self.answers], [], [], PATIENCE)[0], "Chromium does not answer"
            data = os.read(self.answers, 1 << 20)
            assert data, "Chromium has ended"
            self.received += data
        message, _, self.received = self.received.partition(b"\0")
        return json.loads(message)

    def value(self, expression):
        """What a JavaScript expression gives."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, condition, shown):
        """Returns when a JavaScript condition is true; `shown` is an expression whose value tells where it never is."""
        deadline = time.monotonic() + PATIENCE
        while not self.value(condition):
            assert time.monotonic() < deadline, self.value(shown)
            time.sleep(0.02)

    def drop(self, path, selector):
        """Drops a file on the middle of an element, as a hand would."""
        box = self.value(f"document.querySelector({selector!r}).getBoundingClientRect().toJSON()")
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.ask("Input.dispatchDragEvent", type=kind, data=data, **place)

    def choose(self, path, selector):
        """Chooses a file in an input element."""
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.ask("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def screenshot(self):
        """The bytes of a PNG file."""
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])


@contextlib.contextmanager
def page(program, profile):
    """Yields the `Page` of a Chromium that ends with the block; `profile` is an empty folder."""
    (theirs_in, commands), (answers, theirs_out) = os.pipe(), os.pipe()
    line = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(
        ["bash", "-c", f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}', *line],
        pass_fds=(theirs_in, theirs_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Page(commands, answers)
    finally:
        os.close(commands)  # Chromium ends when its pipe does
        os.close(answers)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
