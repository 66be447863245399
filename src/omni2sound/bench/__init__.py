"""How good is it: definitions, statistics and the evaluations that print tables."""
