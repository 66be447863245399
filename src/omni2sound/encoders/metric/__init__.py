"""Networks that judge sounds; never part of a model that they judge."""
