"""Sheet -> one HTML file that needs nothing else: no server, no network, no other file.

The sheet stands in it as JSON, and the page's script puts every text into it as text, so that no markup in an answer
acts. The content-security policy allows this very script and this very style (by their hashes) and nothing besides: no
request of any kind, no other script, no form.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path

from harness.ballot.sheet import Question, Sheet
from harness.specs import Unusable

PARTS = Path(__file__).parent
DATA = re.compile(r'<script type="application/json" id="sheet">(.*?)</script>', re.DOTALL)
SIMULATED = "SIMULATED: programs vote here, not people."


def page(sheet: Sheet) -> str:
    """The whole file."""
    style, script = ((PARTS / name).read_text(encoding="utf-8") for name in ("ballot.css", "ballot.js"))
    policy = f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; "
    filled = {
        "policy": policy + "form-action 'none'",
        "title": f"{'SIMULATED ' * sheet.simulated}Ballot {sheet.editor}",
        "label": SIMULATED if sheet.simulated else "",
        "style": style,
        "script": script,
        "data": _as_json(sheet),
    }
    template = (PARTS / "ballot.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: filled[found.group(1)], template)


def read_page(path: str | Path) -> Sheet:
    """The sheet that a page shows: what an editor sees, and no more."""
    try:
        found = DATA.search(Path(path).read_text(encoding="utf-8"))
        given = json.loads(found.group(1))
        questions = tuple(Question(**question) for question in given.pop("questions"))
        return Sheet(questions=questions, **given)
    except (OSError, UnicodeDecodeError, AttributeError, ValueError, KeyError, TypeError):
        raise Unusable(f"'{path}' is no ballot; name one that 'make' has written.") from None


def _as_json(sheet: Sheet) -> str:
    """JSON in which nothing ends or opens an element."""
    text = json.dumps(asdict(sheet), ensure_ascii=False)
    return re.sub("[<>&\u2028\u2029]", lambda found: f"\\u{ord(found.group()):04x}", text)


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
