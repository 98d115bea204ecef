"""What our own commands share with the gate: what the statuses mean, and options that end with the right one."""

from __future__ import annotations

import argparse
import contextlib
import sys
import traceback
from collections.abc import Iterator

from harness.specs import Unusable

BROKEN, UNUSABLE = 3, 4  # statuses of the gate; Python's own 1 would say that something regressed or was missed


@contextlib.contextmanager
def statuses() -> Iterator[None]:
    """Inside the block, what cannot be used ends the command with its status and one sentence."""
    try:
        yield
    except Unusable as error:
        print(f"ERROR: {error}", file=sys.stderr)
        raise SystemExit(UNUSABLE) from None
    except Exception:
        traceback.print_exc()
        raise SystemExit(BROKEN) from None


class Arguments(argparse.ArgumentParser):
    """Options that cannot be used end with the gate's status for it."""

    def error(self, message: str):
        self.print_usage(sys.stderr)
        raise Unusable(f"{message}; see --help.")
