"""Routes: what is asked for at which address."""
