"""The paper's claims at small scale: a matrix of recipes over seeds, measured and compared."""
