"""Training batches from feature stores."""
