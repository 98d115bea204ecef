"""Judging what `lm_eval --log_samples` wrote: its files read, both sides checked to be the same questions, an audit."""
