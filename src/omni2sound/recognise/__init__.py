"""Recognition: which things a video shows, where and when, and what they sound like."""
