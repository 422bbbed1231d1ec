"""Structured state space models, with a diagonal state matrix and in both directions of time.

Each channel of a layer is a linear system `x' = A x + B u`, `y = C x + D u` of few states, discretized by
a zero-order hold (S4D: Gu, Goel, Gupta & Ré 2022), so that a layer is a convolution with a kernel as long
as the window. Around it is what scored best of the networks trained from scratch on PTB-XL (Mehari &
Strodthoff 2023): GELU, a gated linear layer, a shortcut and layer normalization after it; the mean over
time; a linear layer.

What the kernel is made of stays in float32 whatever the precision, and so does the convolution.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from beatline.common.params import Parameters
from beatline.models import Shape

LEARNS = "labels"


class Architecture(Parameters):
    """`width`: channels of every layer. `state`: size of each channel's state, in which complex numbers
    come in conjugate pairs. `state_rate`: the highest learning rate of the state matrix and of the time
    step, whatever that of the rest is; they have no weight decay."""

    width: int = Field(ge=1)
    state: int = Field(ge=2, multiple_of=2)
    layers: int = Field(ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    state_rate: float = Field(default=0.001, gt=0)


class Network(nn.Module):
    def __init__(self, architecture: Architecture, shape: Shape, outputs: int) -> None:
        super().__init__()
        width = architecture.width
        self.state_rate = architecture.state_rate
        self.encoder = nn.Linear(shape[1], width)
        self.layers = nn.Sequential(
            *(
                _Layer(width, architecture.state // 2, architecture.dropout)
                for _ in range(architecture.layers)
            )
        )
        self.head = nn.Linear(width, outputs)

    def forward(self, recordings: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.encoder(recordings)).mean(dim=1))

    def own_rates(self) -> dict[str, float]:
        """Return the highest learning rates of parameters that have their own, by name."""
        return {
            name: self.state_rate
            for name, _ in self.named_parameters()
            if name.rpartition(".")[2] in StateSpace.OF_STATE
        }


class _Layer(nn.Module):
    """`[B, T, H]` to the same."""

    def __init__(self, width: int, pairs: int, dropout: float) -> None:
        super().__init__()
        self.state_space = StateSpace(width, pairs)
        self.output = nn.Linear(width, 2 * width)
        self.dropout = nn.Dropout1d(dropout)  # of a channel at all times
        self.norm = nn.LayerNorm(width)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        values = self._drop(functional.gelu(self.state_space(steps)))
        values = functional.glu(self.output(values), dim=-1)
        return self.norm(steps + self._drop(values))

    def _drop(self, values: torch.Tensor) -> torch.Tensor:
        return self.dropout(values.transpose(1, 2)).transpose(1, 2)


class StateSpace(nn.Module):
    """`[B, T, H]` to the same: each channel by a system of its own, from the past and from the future.

    Both directions have one state matrix, and see the present. B is one, for C can be anything.
    """

    OF_STATE = ("log_step", "log_decay", "frequency")

    def __init__(self, width: int, pairs: int) -> None:
        super().__init__()
        lowest, highest = math.log(0.001), math.log(0.1)
        self.log_step = nn.Parameter(lowest + (highest - lowest) * torch.rand(width, 1))
        # The initial state matrix of S4D-Inv: -1/2 + i N/π (N/(2n+1) - 1). Few states reach far by it.
        size, odd = 2 * pairs, 2 * torch.arange(pairs) + 1
        self.log_decay = nn.Parameter(torch.full((width, pairs), math.log(0.5)))
        self.frequency = nn.Parameter((size / math.pi * (size / odd - 1)).repeat(width, 1))
        # Two directions; real and imaginary parts.
        self.output = nn.Parameter(torch.randn(2, width, pairs, 2) * math.sqrt(0.5))
        self.skip = nn.Parameter(torch.randn(width))

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        with torch.autocast(steps.device.type, enabled=False):
            length = steps.shape[1]
            past, future = torch.fft.rfft(self.kernels(length), n=2 * length)
            # The conjugate is what runs from the future to the past.
            spectrum = (past + future.conj() + self.skip[:, None]).T
            convolve = _by_matrices if torch.onnx.is_in_onnx_export() else _by_fft
            return convolve(steps.float(), spectrum)

    def kernels(self, length: int, piece: int = 0) -> torch.Tensor:
        """Return the kernels `[2, H, T]` of both directions, from the present on.

        They are sums of powers of the discrete state matrix, each a power for a `piece` of time steps
        (by default, the root of `length`) times one for a step in it: no tensor has all of them.
        """
        matrix = torch.complex(-self.log_decay.exp(), self.frequency)
        logarithm = matrix * self.log_step.exp()  # of the discrete state matrix
        weights = 2 * torch.view_as_complex(self.output) * logarithm.expm1() / matrix
        piece = piece or math.isqrt(length - 1) + 1
        within = torch.arange(piece, device=matrix.device)
        begins = torch.arange(0, length, piece, device=matrix.device)
        powers = (logarithm[..., None] * within).exp()  # [H, N, P]
        starts = weights[..., None] * (logarithm[..., None] * begins).exp()  # [2, H, N, S]
        return (starts.transpose(2, 3) @ powers).real.flatten(2)[..., :length]


def _by_fft(steps: torch.Tensor, spectrum: torch.Tensor) -> torch.Tensor:
    """Convolve `[B, T, H]` with what has the `spectrum` `[T + 1, H]`; beside the window is nothing."""
    length = steps.shape[1]
    inputs = steps.transpose(1, 2).contiguous()  # a third faster with time last
    products = torch.fft.rfft(inputs, n=2 * length) * spectrum.T
    return torch.fft.irfft(products, n=2 * length)[..., :length].transpose(1, 2)


def _by_matrices(steps: torch.Tensor, spectrum: torch.Tensor) -> torch.Tensor:
    """As :func:`_by_fft` by multiplication with constants alone, for an ONNX graph.

    Measured with 256 channels of 250 samples, ONNX Runtime takes 0.6 ms for a layer's, 1.2 ms for a
    convolution in blocks, 2.2 ms for a Toeplitz matrix per channel, and 7 ms for a depthwise convolution.
    """
    forward, back = _fourier(steps.shape[1])
    a, b = (each @ steps for each in forward)
    # By way of NumPy, so that a trace does not hold what they are computed from.
    gain, turn = torch.from_numpy(torch.view_as_real(spectrum.detach()).numpy()).unbind(-1)
    return back @ torch.cat([a * gain - b * turn, a * turn + b * gain], dim=1)


def _fourier(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the matrices of a Fourier transform of zero-padded windows, `[2, T + 1, T]`, and back,
    `[T, 2 (T + 1)]`, real and imaginary parts beside each other."""
    units = np.eye(length + 1)
    forward = np.fft.rfft(units[:length, :length], n=2 * length).T
    back = np.fft.irfft(np.concatenate([units, 1j * units]), n=2 * length)[:, :length].T
    forward, back = (
        np.stack([forward.real, forward.imag]).astype(np.float32),
        back.astype(np.float32),
    )
    return torch.from_numpy(forward), torch.from_numpy(back)
