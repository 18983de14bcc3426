"""A model file on onnxruntime, and its streams' states where it runs.

session   the model: loaded, held against the contract, advanced block by block
held      states in a device's memory, and the small graphs that move them
"""

from streamer.adapters.onnx_session.session import OnnxModel

__all__ = ["OnnxModel"]
