"""Serve: the library over HTTP, with jobs, one queue for one device, and a page."""
