"""Attention over a ring of recent hidden states: each step looks back at what the recurrence said before.

    hidden (B, T, D) ─► note (B, T, A) ──► ring, K notes back ─► weights (B, T, K + T) ─► context (B, T, A)
                    └─► query (B, T, A) ─────────────────────────────┘

The ring is a state of the stream like any other, K × A numbers. A step sees the K notes before its own, never a
later one, so any cut into blocks gives the same numbers; a stream that has no notes yet sees nothing.
Source: Vaswani et al. (2017), Attention is all you need, equation 1, with one head; Bahdanau et al. (2015).
"""

import torch
from torch import Tensor, nn

UNSEEN = -1e4  # a score that leaves a weight of 0 and, unlike −∞, no NaN where every score is that


class Attention(nn.Module):
    """Context from the K notes before each step.

    hidden  D of the recurrent output
    span    K, notes kept
    width   A, numbers in a note
    """

    def __init__(self, hidden: int, span: int, width: int) -> None:
        super().__init__()
        self.span, self.width = span, width
        self.note = nn.Linear(hidden, width)
        self.query = nn.Linear(hidden, width, bias=False)
        self.last_weights: Tensor | None = None

    def forward(self, hidden: Tensor, length: Tensor, ring: Tensor) -> tuple[Tensor, Tensor]:
        """Context (B, T, A) for hidden (B, T, D), and the ring (B, K·A) after step `length` (B,)."""
        steps = hidden.shape[1]
        line = torch.cat((ring.reshape(-1, self.span, self.width), self.note(hidden).tanh()), dim=1)
        scores = self.query(hidden) @ line.transpose(1, 2) / self.width**0.5
        place = torch.arange(self.span + steps, device=hidden.device).unsqueeze(0)
        step = torch.arange(steps, device=hidden.device).unsqueeze(1)
        visible = ((place >= step) & (place < step + self.span)).float() * (line != 0).any(dim=2).float().unsqueeze(1)
        weights = (scores * visible + UNSEEN * (1 - visible)).softmax(dim=2) * visible
        if not torch.compiler.is_exporting():
            self.last_weights = weights.detach()
        return weights @ line, self._kept(line, length)

    def _kept(self, line: Tensor, length: Tensor) -> Tensor:
        places = length.unsqueeze(1) + torch.arange(self.span, device=length.device)
        kept = line.gather(1, places.unsqueeze(2).expand(-1, -1, self.width))
        return kept.reshape(-1, self.span * self.width)

    def by_age(self, weights: Tensor) -> Tensor:
        """Weights (B, T, K + T) as (B, T, K) by age: column k is the note k + 1 steps back."""
        steps = weights.shape[1]
        ages = torch.arange(1, self.span + 1)
        places = (torch.arange(steps).unsqueeze(1) + self.span - ages.unsqueeze(0)).expand(len(weights), -1, -1)
        return weights.gather(2, places.to(weights.device))
