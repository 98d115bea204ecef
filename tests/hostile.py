"""Submissions for the tests: a sound one, and those that break or attack the host. Each is the text of its run.py."""

from __future__ import annotations

from pathlib import Path

SOUND = """
import argparse, json
parser = argparse.ArgumentParser()
for name in ("train", "val", "weights", "output"):
    parser.add_argument("--" + name)
given = parser.parse_args()
rows = [json.loads(line) for line in open(given.val)]
labels = [json.loads(line)["intent"] for line in open(given.train)]
def made(n, row):
    return {"id": row["id"], "prediction": "Guests take no seat.", "predicted_intent": labels[n % len(labels)],
            "latency_ms": 1.5, "tokens_used": 7}
predictions = [made(n, row) for n, row in enumerate(rows)]
training = {"steps": 1, "train_loss": 1.0, "val_loss": 1.0, "wall_clock_s": 0.1}
def write(predictions=predictions):
    json.dump({"training": training, "predictions": predictions}, open(given.output, "w"))
"""

ENDLESS = "while True: pass"

STORM = (
    SOUND
    + """
import os
started = 0
try:
    while True:
        if os.fork() == 0:
            while True: pass
        started += 1
except OSError as error:
    print("refused after", started, error, flush=True)
while True: pass
"""
)

NO_OUTPUT = SOUND + "print('done, or so it says')"
MALFORMED = SOUND + "open(given.output, 'w').write('{\"predictions\": [{]')"
MISSING = SOUND + "write(predictions[1:] + [predictions[1], dict(predictions[0], id='invented')])"
RANDOM = SOUND + "import uuid\nwrite([dict(row, prediction=str(uuid.uuid4())) for row in predictions])"

READER = (
    SOUND
    + """
import os, socket
found = []
for path in {paths!r}:
    try:
        found.append(open(path).read(200) if not os.path.isdir(path) else str(os.listdir(path)))
    except OSError as error:
        print(path, error)
for path in ("/submission/planted", "/data/planted", "/weights/planted", "/planted", "/usr/planted", "/dev/planted"):
    try:
        open(path, "w").write("x")
        found.append("wrote " + path)
    except OSError as error:
        print(path, error)
for place in (("127.0.0.1", {port}), ("192.0.2.1", 80)):
    try:
        socket.create_connection(place, timeout=2)
        found.append("reached " + str(place))
    except OSError as error:
        print(place, error)
found += [name for name in os.environ if name.startswith("LETHE")]
found += [name for name in os.listdir("/proc") if name.isdecimal() and int(name) > 50]
predictions[0]["prediction"] = "FOUND " + repr(found)
write()
"""
)

GREEDY = SOUND + "held = []\nwhile True: held.append(bytearray(20_000_000))"
GREEDY_TOGETHER = (
    SOUND
    + """
import os, time
for _ in range(8):
    if os.fork() == 0:
        held = bytearray(b"x") * 150_000_000
        time.sleep(60)
time.sleep(60)
"""
)
WRITER = SOUND + "with open('/tmp/big', 'wb') as file:\n    while True: file.write(bytes(1 << 20))"
LINKED = SOUND + "import os\nos.symlink('/data/val.jsonl', given.output)"
KILLER = SOUND + "import os, signal\nos.kill(1, signal.SIGKILL)\nwrite()"
INTERRUPTER = SOUND + "import os, signal, time\nos.kill(1, signal.SIGINT)\ntime.sleep(0.5)\nwrite()"
GREEDY_SHARED = """
import mmap, time
held = mmap.mmap(-1, 3 << 29)
for at in range(0, len(held), 4096):
    held[at] = 1
time.sleep(15)
"""


def folder(path: Path, program: str) -> Path:
    """A submission's folder with this run.py."""
    path.mkdir(parents=True)
    (path / "run.py").write_text(program)
    (path / "README.md").write_text("A submission of the tests.")
    return path
