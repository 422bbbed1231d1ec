"""Recurrent networks.

The default pools what the LSTM says over time (average, maximum and last step together), as the LSTM
of Strodthoff et al. 2021 does; ``pooling: last`` is the textbook network.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from beatline.params import Parameters


class Architecture(Parameters):
    """`frame`: so many samples of a recording make one time step of the LSTM (1 for the textbook
    network); a remainder at the end is filled up with zeros, the mean."""

    hidden: int = Field(ge=1)
    layers: int = Field(ge=1)
    bidirectional: bool
    frame: int = Field(ge=1)
    pooling: Literal["last", "average_max_last"]
    dropout: float = Field(ge=0, lt=1)


class Network(nn.Module):
    def __init__(self, architecture: Architecture, channels: int, outputs: int) -> None:
        super().__init__()
        self.frame = architecture.frame
        self.pooling = architecture.pooling
        self.lstm = nn.LSTM(
            channels * architecture.frame,
            architecture.hidden,
            architecture.layers,
            batch_first=True,
            bidirectional=architecture.bidirectional,
            dropout=architecture.dropout if architecture.layers > 1 else 0.0,
        )
        width = architecture.hidden * (2 if architecture.bidirectional else 1)
        width *= 3 if architecture.pooling == "average_max_last" else 1
        self.head = nn.Sequential(nn.Dropout(architecture.dropout), nn.Linear(width, outputs))

    def forward(self, recordings: torch.Tensor) -> torch.Tensor:
        batch, length, channels = recordings.shape
        missing = -length % self.frame
        padded = nn.functional.pad(recordings, (0, 0, 0, missing)) if missing else recordings
        steps, (hidden, _) = self.lstm(padded.reshape(batch, -1, channels * self.frame))
        directions = 2 if self.lstm.bidirectional else 1
        # The last state of each direction: the backward one has read the recording from its end.
        last = torch.cat(list(hidden[-directions:]), dim=1)
        if self.pooling == "last":
            return self.head(last)
        return self.head(torch.cat([steps.mean(dim=1), steps.amax(dim=1), last], dim=1))
