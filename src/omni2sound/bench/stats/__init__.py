"""Statistics: intervals, resampling, distances between sets."""
