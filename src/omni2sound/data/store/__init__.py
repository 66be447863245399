"""Feature stores: what training reads."""
