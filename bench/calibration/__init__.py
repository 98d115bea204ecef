"""The gate's own error rates, measured: docs/calibration.md."""
