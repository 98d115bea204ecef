"""python -m harness.metering --upstream URL --prices FILE: the proxy on loopback, until it is interrupted."""

from __future__ import annotations

import json
import os
import threading
from decimal import Decimal, InvalidOperation
from pathlib import Path

from harness.command_line import Arguments, statuses
from harness.metering.ledger import BUDGET, Ledger, read_prices
from harness.metering.proxy import Serving, Upstream
from harness.specs import Unusable

KEY = "UPSTREAM_API_KEY"


def dollars(text: str) -> Decimal:
    """'3.00' -> dollars; `Unusable` for what is no amount."""
    try:
        made = Decimal(text)
    except InvalidOperation:
        made = Decimal("NaN")
    if not made.is_finite() or made < 0:
        raise Unusable(f"--budget {text} is no amount of dollars; write one as in --budget 3.00.")
    return made


def checked(url: str, key: str | None) -> Upstream:
    """The operator's upstream; `Unusable` where it cannot be one."""
    if not url.startswith(("http://", "https://")):
        raise Unusable(f"--upstream {url} is no address; write it as in --upstream https://host/v1.")
    if not key:
        raise Unusable(f"--upstream needs the operator's key; set {KEY} in the environment.")
    return Upstream(url, key)


def main() -> None:
    parser = Arguments(description="Meter calls to an OpenAI-compatible server.")
    parser.add_argument("--upstream", required=True, help=f"the server, as https://host/v1; its key is {KEY}")
    parser.add_argument("--prices", required=True, type=Path, help="TOML: dollars for a million tokens, by model")
    parser.add_argument("--budget", default=str(BUDGET), help=f"in dollars; default: {BUDGET}")
    parser.add_argument("--port", type=int, default=0, help="of loopback; default: a free one")
    with statuses():
        given = parser.parse_args()
        ledger = Ledger(read_prices(given.prices), dollars(given.budget))
        upstream = checked(given.upstream, os.environ.get(KEY))
    with Serving(upstream, ledger, port=given.port) as serving:
        print(f"metering at {serving.url}; interrupt to end", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(json.dumps(ledger.summary(), indent=1))


if __name__ == "__main__":
    main()
