"""Export: a model as ONNX graphs, checked against torch."""
