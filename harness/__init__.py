"""Lethe's core: evaluate, compare, judge, report. Nothing here imports pytest, tests, fixtures or mitigations."""
