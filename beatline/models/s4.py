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
from numpy.typing import NDArray
from pydantic import Field
from torch import nn
from torch.nn import functional

from beatline.common.params import Parameters
from beatline.models import Shape

LEARNS = "labels"
Complex = NDArray[np.complexfloating]


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
        exported = torch.onnx.is_in_onnx_export()
        length = steps.shape[1]
        with torch.autocast(steps.device.type, enabled=False):
            size = math.prod(_factors(length)) if exported else 2 * length
            past, future = torch.fft.rfft(self.kernels(length), n=size)
            # The conjugate is what runs from the future to the past.
            spectrum = past + future.conj() + self.skip[:, None]
            return (_by_matrices if exported else _by_fft)(steps.float(), spectrum)

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
    """Convolve `[B, T, H]` with what has the `spectrum` `[H, T + 1]`; beside the window is nothing."""
    length = steps.shape[1]
    inputs = steps.transpose(1, 2).contiguous()  # a third faster with time last
    products = torch.fft.rfft(inputs, n=2 * length) * spectrum
    return torch.fft.irfft(products, n=2 * length)[..., :length].transpose(1, 2)


def _factors(length: int) -> tuple[int, int]:
    """Return `rows`, which are even, and `columns` of :func:`_by_matrices` for windows of `length`."""
    columns = math.isqrt(length // 2) or 1
    return 2 * math.ceil(length / columns), columns


def _by_matrices(steps: torch.Tensor, spectrum: torch.Tensor) -> torch.Tensor:
    """As :func:`_by_fft` by products with constant matrices, for an ONNX graph. `spectrum` is that of a
    kernel in as many time steps as `rows` × `columns`. ONNX Runtime takes a quarter to a half of the time
    that it takes for a Fourier transform in one step, the fastest of what else was measured: a Toeplitz
    matrix per channel, and convolutions.

    A Fourier transform in two steps (Cooley & Tukey 1965), and back: time is `columns` × row + column,
    and a frequency `rows` × high + low. Time is real, so that half of `low` is enough. Complex numbers
    are pairs of real ones, in a dimension of their own or one block after the other.
    """
    length, width = steps.shape[1:]
    rows, columns = _factors(length)
    half, size = rows // 2, rows * columns
    low, high = np.arange(half + 1), np.arange(columns)
    frequencies = low[:, None] + rows * high
    first: Complex = np.exp(-2j * np.pi / rows * np.outer(low, np.arange(half)))
    second: Complex = np.exp(
        -2j * np.pi / size * np.multiply.outer(frequencies, np.arange(columns))
    )
    to_low = np.stack([first.real, first.imag], axis=1).reshape(-1, half)
    to_all = np.block([[second.real, -second.imag], [second.imag, second.real]])
    shares = np.where(low % half, 2, 1).repeat(2) / size  # of a frequency and of its mirror image
    # By way of NumPy, so that a trace does not hold what it is computed from.
    known = spectrum.detach().numpy()
    every = np.concatenate([known, known[:, -2:0:-1].conj()], axis=1)[:, frequencies]
    gains: Complex = every.transpose(1, 2, 0)  # [low, high, H]

    padded = functional.pad(steps, (0, 0, 0, half * columns - length))
    by_low = _constant(to_low) @ padded.reshape(-1, half, columns * width)
    by_all = _constant(to_all) @ by_low.reshape(-1, half + 1, 2 * columns, width)
    real, imaginary = by_all.split(columns, dim=2)
    gain, turn = _constant(gains.real), _constant(gains.imag)
    products = torch.cat([real * gain - imaginary * turn, real * turn + imaginary * gain], dim=2)
    by_low = _constant(to_all.transpose(0, 2, 1)) @ products
    padded = _constant(to_low.T * shares) @ by_low.reshape(-1, rows + 2, columns * width)
    return padded.reshape(-1, half * columns, width)[:, :length]


def _constant(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
