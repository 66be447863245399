"""Limits of what a media file may take, and the check of what it claims."""
