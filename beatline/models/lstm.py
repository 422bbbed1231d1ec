"""Recurrent networks.

``pooling: average_max_last`` pools what the LSTM says over time (average, maximum and last step
together), as the LSTM of Strodthoff et al. 2021 does; ``last`` is the textbook network; ``none`` shows
all steps to the next layer, which then knows what was said where: for windows that begin at the same
place of what they show, as the rows of an image do.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from beatline.common.params import Parameters
from beatline.models import Shape

LEARNS = "labels"


class Architecture(Parameters):
    """`frame`: so many samples of a recording make one time step of the LSTM (1 for the textbook
    network); a remainder at the end is filled up with zeros, the mean. `pooling: none` fits windows of
    one length only. `dense`: units of a linear layer with ReLU before the output, 0 for none."""

    hidden: int = Field(ge=1)
    layers: int = Field(ge=1)
    bidirectional: bool = False
    frame: int = Field(default=1, ge=1)
    pooling: Literal["last", "average_max_last", "none"]
    dense: int = Field(default=0, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Network(nn.Module):
    def __init__(self, architecture: Architecture, shape: Shape, outputs: int) -> None:
        super().__init__()
        self.frame = architecture.frame
        self.pooling = architecture.pooling
        self.dropout = architecture.dropout
        width = architecture.hidden * (2 if architecture.bidirectional else 1)
        # A layer each: on CUDA the dropout between the layers of one nn.LSTM draws from a state of
        # cuDNN's own, which no checkpoint holds.
        self.lstm, *deeper = (
            nn.LSTM(
                width if number else shape[1] * architecture.frame,
                architecture.hidden,
                batch_first=True,
                bidirectional=architecture.bidirectional,
            )
            for number in range(architecture.layers)
        )
        self.deeper = nn.ModuleList(deeper)
        self.register_state_dict_post_hook(_names_of_one)
        self.register_load_state_dict_pre_hook(_names_of_layers)
        steps = -(-shape[0] // architecture.frame)
        width *= {"last": 1, "average_max_last": 3, "none": steps}[architecture.pooling]
        dropout = nn.Dropout(architecture.dropout)
        if architecture.dense:
            hidden = nn.Linear(width, architecture.dense)
            output = nn.Linear(architecture.dense, outputs)
            self.head = nn.Sequential(hidden, nn.ReLU(), dropout, output)
        else:
            self.head = nn.Sequential(dropout, nn.Linear(width, outputs))

    def forward(self, recordings: torch.Tensor) -> torch.Tensor:
        batch, length, channels = recordings.shape
        missing = -length % self.frame
        padded = nn.functional.pad(recordings, (0, 0, 0, missing)) if missing else recordings
        steps, (hidden, _) = self.lstm(padded.reshape(batch, -1, channels * self.frame))
        for layer in self.deeper:
            # Time first, as nn.LSTM draws it.
            kept = nn.functional.dropout(steps.transpose(0, 1), self.dropout, self.training)
            steps, (hidden, _) = layer(kept.transpose(0, 1))
        if self.pooling == "none":
            return self.head(steps.flatten(1))
        directions = 2 if self.lstm.bidirectional else 1
        # The last state of each direction: the backward one has read the recording from its end.
        last = torch.cat(list(hidden[-directions:]), dim=1)
        if self.pooling == "last":
            return self.head(last)
        return self.head(torch.cat([steps.mean(dim=1), steps.amax(dim=1), last], dim=1))


def _names_of_one(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
    """Call the tensors of a network's `state` as those of one nn.LSTM with all layers: so bundles do."""
    for name in list(state):
        layer = re.fullmatch(rf"{re.escape(prefix)}deeper\.(\d+)\.(.+)_l0(_reverse)?", name)
        one = layer and f"{prefix}lstm.{layer[2]}_l{int(layer[1]) + 1}{layer[3] or ''}"
        state[one or name] = state.pop(name)  # also where it keeps its name, for the order


def _names_of_layers(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
    """Call the tensors of :func:`_names_of_one` as those of a network again."""
    for name in list(state):
        layer = re.fullmatch(rf"{re.escape(prefix)}lstm\.(.+)_l([1-9]\d*)(_reverse)?", name)
        if layer:
            number = int(layer[2]) - 1
            state[f"{prefix}deeper.{number}.{layer[1]}_l0{layer[3] or ''}"] = state.pop(name)
