"""Results of a run: progress, data set, pages, comparisons."""
