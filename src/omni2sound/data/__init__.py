"""From recordings, pictures and videos to batches."""
