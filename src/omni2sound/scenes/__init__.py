"""The stage corpus: synthetic scenes with exact truth from real recordings and pictures."""
