"""What brings a lost skill back: each file makes a new candidate of base and candidate. Imports harness and recipes."""
