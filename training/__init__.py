"""Tidecast's offline trainer: history in, one ONNX model bundle out."""
