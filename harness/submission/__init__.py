"""A submission to the support-ticket challenge: checked, run in a sandbox, graded."""
