"""What our own commands share with the gate: what the statuses mean, and options that end with the right one."""

from __future__ import annotations

import argparse
import sys

from harness.specs import Unusable

BROKEN, UNUSABLE = 3, 4  # statuses of the gate; Python's own 1 would say that something regressed or was missed


class Arguments(argparse.ArgumentParser):
    """Options that cannot be used end with the gate's status for it."""

    def error(self, message: str):
        self.print_usage(sys.stderr)
        raise Unusable(f"{message}; see --help.")
