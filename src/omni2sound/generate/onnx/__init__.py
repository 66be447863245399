"""Generation on a CPU from an exported folder: ONNX Runtime and NumPy, no torch."""
