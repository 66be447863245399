"""Training data: importers and manifests, feature stores, batches, worker processes."""
