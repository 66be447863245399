"""The default model in a web browser: its parts as a page loads them, and the page's server."""
