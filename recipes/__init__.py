"""How candidates are trained. Each file is a function and a command. Imports harness only."""
