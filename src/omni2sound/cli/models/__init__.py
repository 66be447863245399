"""Commands that bring models into another form: of published checkpoints, and as ONNX."""
