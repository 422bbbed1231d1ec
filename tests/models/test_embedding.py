"""The embedding detector: its transforms, its memory bank against scikit-learn, and a real bearing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import uniform_filter1d
from scipy.stats import norm
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

from beatline.models.embedding import Architecture, PretextTransforms, pretext_transforms
from tests.models import detectors

NONE = {
    "shift": 0,
    "tilt": 0.0,
    "boost": 0.0,
    "regions": 0,
    "stretch": 0.0,
    "smooth": 0,
    "reverse": False,
}
ALL = {
    "shift": 2,
    "tilt": 1.0,
    "boost": 0.7,
    "regions": 2,
    "stretch": 1.25,
    "smooth": 3,
    "reverse": True,
}
SMALL: dict[str, Any] = {
    "filters": [8, 16],
    "kernel": 3,
    "embedding": 12,
    "scale": 6.0,
    "neighbours": 2,
    "versions": {**NONE, "shift": 1, "tilt": 1.0},
}


def create(shape: tuple[int, int] = (16, 10), outputs: int = 2, **changes: Any) -> Any:
    torch.manual_seed(1)
    return detectors.create("embedding", {**SMALL, **changes}, shape, outputs)


def windows(batch: int, length: int = 16, channels: int = 10, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, length, channels, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def with_memory_bank(network: Any, known: torch.Tensor) -> Any:
    """Build the memory bank as the training loop does."""
    network.eval().build_memory_bank(known.split(7))
    return network


def changed(**versions: Any) -> list[np.ndarray]:
    """Return a window `[40, 10]` under all its pretext transforms."""
    transforms = pretext_transforms(PretextTransforms.model_validate({**NONE, **versions}))
    return [transform(windows(1, 40))[0].numpy() for transform in transforms]


def test_versions_are_what_their_names_say() -> None:
    """The first leaves the window as it is, the others equal NumPy's and SciPy's way of doing it."""
    window = windows(1, 40)[0].numpy()
    original, up, down, rising, falling, low, high, stretched, smoothed, backwards = changed(**ALL)
    slope = np.linspace(-0.5, 0.5, 10)
    places = np.clip((np.arange(40) + 0.5) * 32 / 40 - 0.5, 0, 31)
    slow = [np.interp(places, np.arange(32), channel) for channel in window[:32].T]
    assert np.array_equal(original, window)
    assert np.array_equal(up, np.pad(window, ((0, 0), (2, 0)), "edge")[:, :10])
    assert np.array_equal(down, np.pad(window, ((0, 0), (0, 2)), "edge")[:, 2:])
    np.testing.assert_allclose(rising, window + slope, atol=1e-6)
    np.testing.assert_allclose(falling, window - slope, atol=1e-6)
    bells = [0.7 * norm.pdf(np.arange(10), at, 1.25) / norm.pdf(0, 0, 1.25) for at in (2.5, 7.5)]
    np.testing.assert_allclose(low, window + bells[0], atol=1e-6)
    np.testing.assert_allclose(high, window + bells[1], atol=1e-6)
    np.testing.assert_allclose(stretched, np.transpose(slow), atol=1e-5)
    np.testing.assert_allclose(smoothed[1:-1], uniform_filter1d(window, 3, 0)[1:-1], atol=1e-6)
    np.testing.assert_allclose(smoothed[0], window[:2].mean(axis=0), atol=1e-6)
    assert np.array_equal(backwards, window[::-1])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stretch", 0.8),
        ("stretch", 1.0),
        ("smooth", 4),
        ("shift", -1),
        ("boost", 0.7),
        ("regions", 6),
    ],
)
def test_versions_that_cannot_be(key: str, value: float) -> None:
    """A value that would not change anything, or has no meaning, is refused."""
    with pytest.raises(ValidationError, match=key):
        PretextTransforms.model_validate({**NONE, key: value})


def test_a_kernel_without_a_middle_is_refused() -> None:
    """An even kernel would move what it sees."""
    with pytest.raises(ValidationError, match="kernel must be odd"):
        Architecture.model_validate({**SMALL, "kernel": 4})


def test_logits_are_scaled_cosines_of_every_version() -> None:
    """`[B, V, S * V]`: version v of a window is embedded as if it were a window of its own."""
    network = create(outputs=3, versions=ALL).train()
    logits = network(windows(4))
    assert logits.shape == (4, 10, 3 * 10)
    assert logits.abs().max() <= SMALL["scale"] * (1 + 1e-5)
    network.eval()  # so that batch norm does not depend on the batch
    embedded = network.embed(network.transforms[5](windows(4)))
    cosines = torch.cosine_similarity(embedded[:, None], network.directions, dim=2)
    for module in network.modules():
        module.training = module is network
    torch.testing.assert_close(network(windows(4))[:, 5], SMALL["scale"] * cosines)


@pytest.mark.parametrize("known", [400, 20])
def test_score_is_the_distance_to_the_nearest_neighbours(known: int) -> None:
    """Equal to scikit-learn's: Mahalanobis distances by its Ledoit-Wolf covariance of the standardized
    places, for more and for fewer windows than dimensions."""
    network = with_memory_bank(create(), windows(known))
    with torch.inference_mode():
        places = network.embeddings(windows(known)).double().numpy()
        asked = network.embeddings(windows(9, seed=5)).double().numpy()
        found = network(windows(9, seed=5))
    centre, spread = places.mean(axis=0), places.std(axis=0)
    places, asked = (places - centre) / spread, (asked - centre) / spread
    precision = LedoitWolf(assume_centered=True).fit(places).precision_
    search = NearestNeighbors(n_neighbors=2, metric="mahalanobis", metric_params={"VI": precision})
    distances, _ = search.fit(places).kneighbors(asked)
    expected = (distances**2).mean(axis=1) / places.shape[1]
    np.testing.assert_allclose(found[:, 0].numpy(), expected, rtol=1e-3)


def test_what_is_known_is_near() -> None:
    """A window of the memory bank is at no distance from itself, and it does not matter in which
    batches the windows came."""
    known = windows(30)
    network = with_memory_bank(create(neighbours=1), known)
    with torch.inference_mode():
        assert network(known).abs().max() < 1e-6
        network.build_memory_bank([known])
        assert network(known).abs().max() < 1e-6
        assert network(windows(30, seed=1)).min() > 0.01


def test_a_window_is_scored_on_its_own() -> None:
    """In evaluation mode the others in the batch change nothing, to 1e-5."""
    network = with_memory_bank(create(), windows(50))
    asked = windows(40, seed=3)
    with torch.inference_mode():
        alone = torch.cat([network(one[None]) for one in asked])
        torch.testing.assert_close(network(asked), alone, rtol=1e-5, atol=1e-5)


def test_small_distances_between_far_places_are_not_rounded_away() -> None:
    """Places 1,000 from the origin and 0.01 apart: in float32 the square expanded as it is computed here
    would be off by more than it is."""
    network = with_memory_bank(create(neighbours=1), windows(50)).eval()
    size = network.memory.shape[1]
    network.memory = torch.full((2, size), 1000.0)
    asked = torch.full((1, size), 1000.0) + 0.01
    expected = (asked.double() - 1000).square().mean()
    assert float(network._distance(asked)) == pytest.approx(float(expected), rel=1e-6)


def test_loads_any_number_of_memories() -> None:
    """Weights of a network with a larger memory bank than the one that they are loaded into."""
    network = with_memory_bank(create(), windows(50))
    other = create().eval()
    other.load_state_dict(network.state_dict())
    with torch.inference_mode():
        assert torch.equal(other(windows(5, seed=2)), network(windows(5, seed=2)))
    other.load_state_dict(create().state_dict())
    assert len(other.memory) == 1


def test_fewer_windows_than_neighbours() -> None:
    """One window in memory is enough for a score."""
    network = with_memory_bank(create(neighbours=5), windows(1))
    with torch.inference_mode():
        assert torch.isfinite(network(windows(3, seed=1))).all()


@pytest.mark.parametrize("sections", [1, 3])
def test_finds_what_it_never_saw(sections: int) -> None:
    """Trained by the project's loop, it tells sections and versions apart, and anomalies are far; of
    one section there are only versions to tell apart."""
    found = detectors.trained_on_toys("embedding", SMALL, epochs=12, sections=sections)
    assert found.auc() > 0.9
    with torch.inference_mode():
        signals = torch.from_numpy(detectors.toys(sections, 5, seed=9)[:, :16])
        classes = [
            found.network.embed(change(signals)) @ found.network.directions.T
            for change in found.network.transforms
        ]
    predicted = torch.stack(classes, dim=1).argmax(dim=2)
    versions = torch.arange(len(found.network.transforms))
    wanted = torch.arange(sections).repeat_interleave(5)[:, None] * len(versions) + versions
    assert (predicted == wanted).float().mean() > 0.9


@detectors.needs_bearing
def test_finds_every_damage_of_a_real_bearing() -> None:
    """Eight healthy clips of a quarter of a second are enough to tell all damages from health."""
    architecture = {**SMALL, "versions": {**ALL, "reverse": False}}
    found = detectors.trained_on_bearing("embedding", architecture, epochs=10)
    assert found.auc() >= 0.99
    assert np.median(found.anomalous) > 2 * found.normal.max()
