"""Headers of the parts that mp4 and Matroska files are built of."""
