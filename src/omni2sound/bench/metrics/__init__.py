"""What is measured of one sound or one set of sounds, by versioned protocols."""
