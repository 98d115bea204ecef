"""What calls to a paid model cost: a proxy that counts, prices and stops them at a budget."""
