"""How fast an audit is on this machine, beside lm-eval and by itself: `make speed` writes docs/speed.md."""
