"""Scenes as files, as features, and as training batches."""
