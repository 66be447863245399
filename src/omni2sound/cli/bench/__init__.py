"""Commands of the benchmark: `omni2sound bench ...`."""
