"""The recurrent layer: one cell for torch, and its translation to the ONNX operators RNN, GRU and LSTM.

torch's own export of a recurrent layer unrolls it or ignores padding. So while a graph is exported, each
layer is one opaque operator, which the translation table turns into the ONNX operator with
`sequence_lens`; in eager mode the same weights run through torch's fused kernels.

Gate order differs: torch GRU r,z,n and LSTM i,f,g,o; ONNX GRU z,r,h and LSTM i,o,f,c.
Source: ONNX operator documentation (GRU, LSTM, RNN); torch.nn.GRU, torch.nn.LSTM.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from onnxscript.values import Opset
from torch import Tensor, nn

Cell = Literal["rnn", "gru", "lstm"]
MODULES: dict[Cell, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
ONNX_GATES: dict[Cell, tuple[int, ...]] = {"rnn": (0,), "gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}
ONNX_OPSET = 20  # onnxruntime's recurrent kernels for CUDA are listed as of opset 14, those of opset 22 are new ones
INT32 = 6  # onnx.TensorProto.INT32


class Recurrence(nn.Module):
    """A stack of recurrent layers over padded sequences.

    cell, inputs, hidden, layers  which cell, input features F, hidden size D, layers L
    dropout                       between layers and on the inputs, while training
    """

    def __init__(self, cell: Cell, inputs: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.cell, self.hidden = cell, hidden
        self.layers = nn.ModuleList(
            MODULES[cell](inputs if i == 0 else hidden, hidden, batch_first=True) for i in range(layers)
        )
        self.dropout = nn.Dropout(dropout)

    @property
    def state_names(self) -> tuple[str, ...]:
        """The states a stream carries, each (B, L·D) float32."""
        return ("hidden", "cell") if self.cell == "lstm" else ("hidden",)

    def forward(self, x: Tensor, length: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Outputs (B, T, D) of the last layer for x (B, T, F), and each state (B, L·D) after step `length`."""
        per_layer = [torch.split(s, self.hidden, dim=1) for s in state]
        following: list[list[Tensor]] = [[] for _ in state]
        for i, layer in enumerate(self.layers):
            old = [parts[i] for parts in per_layer]
            x, new = self._layer(cast(nn.RNNBase, layer), self.dropout(x), length, old)
            for parts, tensor in zip(following, new, strict=True):
                parts.append(tensor)
        return x, [torch.cat(parts, dim=1) for parts in following]

    def _layer(
        self, layer: nn.RNNBase, x: Tensor, length: Tensor, state: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        if torch.compiler.is_exporting():
            w_ih, w_hh, b_ih, b_hh = (_onnx_order(w, self.cell) for w in layer.all_weights[0])
            if self.cell == "lstm":
                y, h, c = _lstm(x, length, state[0], state[1], w_ih, w_hh, torch.cat((b_ih, b_hh)))
                return y, (h, c)
            y, h = _recurrent(self.cell, x, length, state[0], w_ih, w_hh, torch.cat((b_ih, b_hh)))
            return y, (h,)
        return _eager_layer(layer, x, length, [s.unsqueeze(0).contiguous() for s in state])


def _eager_layer(
    layer: nn.RNNBase, x: Tensor, length: Tensor, state: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    start = (state[0], state[1]) if len(state) == 2 else state[0]
    steps = x.shape[1]
    if bool((length == steps).all()):
        y, last = layer(x, start)
    else:
        packed = nn.utils.rnn.pack_padded_sequence(x, length.cpu(), batch_first=True, enforce_sorted=False)
        packed_y, last = layer(packed, start)
        y, _ = nn.utils.rnn.pad_packed_sequence(packed_y, batch_first=True, total_length=steps)
    return y, tuple(s.squeeze(0) for s in (last if isinstance(last, tuple) else (last,)))


def _onnx_order(weight: Tensor, cell: Cell) -> Tensor:
    gates = weight.chunk(len(ONNX_GATES[cell]))
    return torch.cat([gates[i] for i in ONNX_GATES[cell]])


@torch.library.custom_op("tidecast::recurrent", mutates_args=())
def _recurrent(
    cell: str, x: Tensor, length: Tensor, hidden: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """One RNN or GRU layer, weights in ONNX gate order; only ever traced, never run."""
    raise NotImplementedError("a placeholder for export")


@_recurrent.register_fake
def _(
    cell: str, x: Tensor, length: Tensor, hidden: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[0], x.shape[1], hidden.shape[1]), torch.empty_like(hidden)


@torch.library.custom_op("tidecast::lstm", mutates_args=())
def _lstm(
    x: Tensor, length: Tensor, hidden: Tensor, cell: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One LSTM layer, weights in ONNX gate order; only ever traced, never run."""
    raise NotImplementedError("a placeholder for export")


@_lstm.register_fake
def _(
    x: Tensor, length: Tensor, hidden: Tensor, cell: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape[0], x.shape[1], hidden.shape[1]), torch.empty_like(hidden), torch.empty_like(cell)


def onnx_translations() -> dict[Callable[..., object], Callable[..., object]]:
    """What `torch.onnx.export(custom_translation_table=…)` needs for the operators above."""
    op = Opset("", ONNX_OPSET)

    def arranged(x: Any, length: Any, *weights: Any) -> tuple[Any, Any, tuple[Any, ...]]:
        """ONNX layout 0, the only one onnxruntime's CPU kernels have: time first, one direction."""
        first = op.Constant(value_ints=[0])
        sequence = op.Transpose(x, perm=[1, 0, 2])
        return first, sequence, (*(op.Unsqueeze(w, first) for w in weights), op.Cast(length, to=INT32))

    def batch_first(y: Any) -> Any:
        return op.Transpose(op.Squeeze(y, op.Constant(value_ints=[1])), perm=[1, 0, 2])

    def recurrent(cell: str, x: Any, length: Any, hidden: Any, w_ih: Any, w_hh: Any, bias: Any) -> Any:
        first, sequence, weights = arranged(x, length, w_ih, w_hh, bias)
        start, size = op.Unsqueeze(hidden, first), int(hidden.shape[1])
        if cell == "gru":
            y, last = op.GRU(sequence, *weights, start, hidden_size=size, linear_before_reset=1)
        else:
            y, last = op.RNN(sequence, *weights, start, hidden_size=size)
        return batch_first(y), op.Squeeze(last, first)

    def lstm(x: Any, length: Any, hidden: Any, cell: Any, w_ih: Any, w_hh: Any, bias: Any) -> Any:
        first, sequence, weights = arranged(x, length, w_ih, w_hh, bias)
        start = (op.Unsqueeze(hidden, first), op.Unsqueeze(cell, first))
        y, last, last_cell = op.LSTM(sequence, *weights, *start, hidden_size=int(hidden.shape[1]))
        return batch_first(y), op.Squeeze(last, first), op.Squeeze(last_cell, first)

    return {
        torch.ops.tidecast.recurrent.default: recurrent,
        torch.ops.tidecast.lstm.default: lstm,
    }
