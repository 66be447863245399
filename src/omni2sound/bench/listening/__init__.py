"""Blinded listening tests."""
