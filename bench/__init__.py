"""What the gate's verdicts are worth: the instrument measured on enumerated, simulated and recorded scores."""
