"""From clips to batches: manifests, the stage corpus, features, sampling."""
