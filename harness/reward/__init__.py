"""Is a reward model right often enough, in each category, and does its score mean anything? No model is needed here."""
