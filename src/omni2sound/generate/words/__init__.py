"""Words of a request: what the model is told when, and what the user is told of it."""
