"""Networks of metrics: taggers and joint encoders, never part of a model under test."""
