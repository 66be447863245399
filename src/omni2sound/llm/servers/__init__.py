"""Differences between OpenAI-compatible servers: request bodies, rejections, a probe."""
