"""Autoencoders in one and two dimensions: layer by layer, for any window, and on a real bearing."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from beatline import models
from tests.models import detectors

IN_TWO = {"dimensions": 2, "filters": [32, 64, 128, 256], "kernel": 3, "code": 40}
IN_ONE = {"dimensions": 1, "filters": [4, 5, 3], "kernel": 5, "code": 0}


def create(architecture: dict[str, Any], shape: models.Shape) -> Any:
    return detectors.create("autoencoder", architecture, shape, 1)


def windows(batch: int, length: int, channels: int) -> torch.Tensor:
    return torch.randn(batch, length, channels, generator=torch.Generator().manual_seed(0))


def test_two_dimensional_layers() -> None:
    """1-32-64-128-256-z of stride 2 with batch norm and ReLU, dense to z = 40, and the mirror: written
    out with the same weights, the outputs are equal."""
    network = create(IN_TWO, (64, 128)).train()
    widths = [1, 32, 64, 128, 256]
    down: list[nn.Module] = []
    for wide, narrow in itertools.pairwise(widths):
        down += [nn.Conv2d(wide, narrow, 3, 2, 1), nn.BatchNorm2d(narrow), nn.ReLU()]
    up: list[nn.Module] = []
    for narrow, wide in itertools.pairwise(widths[:0:-1]):
        up += [nn.ConvTranspose2d(narrow, wide, 3, 2, 1, 1), nn.BatchNorm2d(wide), nn.ReLU()]
    reference = nn.Sequential(
        *[*down, nn.Flatten(), nn.Linear(256 * 4 * 8, 40)],
        *[nn.Linear(40, 256 * 4 * 8), nn.Unflatten(1, (256, 4, 8))],
        *[*up, nn.ConvTranspose2d(32, 1, 3, 2, 1, 1)],
    )
    state = zip(reference.state_dict(), network.state_dict().values(), strict=True)
    reference.load_state_dict(dict(state))
    given_windows = windows(3, 64, 128)
    expected = reference(given_windows.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(network(given_windows), expected, rtol=1e-4, atol=1e-4)


def test_one_dimension_is_drawn_as_it_always_was() -> None:
    """Trained models depend on the names of the tensors and on the order in which they are drawn."""
    torch.manual_seed(7)
    first, down = nn.Conv1d(3, 4, 5, 2, 2), None
    last = nn.ConvTranspose1d(4, 3, 5, 2, 2, 1)
    down, up = nn.Conv1d(4, 2, 5, 2, 2), nn.ConvTranspose1d(2, 4, 5, 2, 2, 1)
    torch.manual_seed(7)
    state = create({**IN_ONE, "filters": [4, 2]}, (20, 3)).state_dict()
    layers = {"encoder.0": first, "encoder.3": down, "decoder.0": up, "decoder.3": last}
    normalizations = {name for name in state if name.split(".", 2)[1] == "1"}
    assert {f"{at}.{part}" for at in layers for part in ("weight", "bias")} == (
        set(state) - normalizations
    )
    for at, layer in layers.items():
        assert torch.equal(state[f"{at}.weight"], layer.weight)
        assert torch.equal(state[f"{at}.bias"], layer.bias)


@settings(max_examples=40, deadline=None)
@given(
    dimensions=st.sampled_from([1, 2]),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 20)),
    kernel=st.integers(2, 6),
    code=st.integers(0, 3),
)
def test_gives_back_any_window(
    dimensions: int, shape: tuple[int, int], kernel: int, code: int
) -> None:
    """`[B, T, C]` in, `[B, T, C]` out, whatever strides need to be filled up."""
    architecture = {"dimensions": dimensions, "kernel": kernel, "code": code}
    network = create({**architecture, "filters": [2, 3]}, shape).eval()
    found = network(windows(2, *shape))
    assert found.shape == (2, *shape)
    assert torch.isfinite(found).all()


def test_finds_what_it_never_saw() -> None:
    """Trained by the project's loop on normal spectrograms, it reconstructs others less well."""
    architecture = {**IN_TWO, "filters": [8, 16], "code": 8}
    found = detectors.trained_on_toys("autoencoder", architecture, epochs=20)
    assert found.auc() > 0.9
    assert found.normal.mean() < 0.9  # the variance of the input is 1: it learned something


@detectors.needs_bearing
def test_finds_every_damage_of_a_real_bearing() -> None:
    """Eight healthy clips of a quarter of a second are enough to tell all damages from health."""
    found = detectors.trained_on_bearing("autoencoder", IN_TWO, epochs=20)
    assert found.auc() >= 0.99
    assert np.median(found.anomalous) > 2 * found.normal.max()
