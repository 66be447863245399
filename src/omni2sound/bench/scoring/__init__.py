"""Scoring: from sound files to rows of a table."""
