"""Reports: tables, plots and pages of a scored run."""
