"""Commands of training: `omni2sound train`, `train-part` and `cost`."""
