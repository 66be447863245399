"""Commands of the studio: the server."""
