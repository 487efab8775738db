"""The eye of the digits' benchmark: features of a small classifier, and the figures of a set of samples that it gives.

The classifier learns the training images. Everything that samples are held against is held out: no contender has seen
it, nor has the classifier. The Frechet distance between two finite sets is not zero even if both are real, and it falls
with their sizes. So the held-out images are halved again and again, and both distances are taken with one half as the
reference: that of the other half is the floor, that of as many samples is the model's.

Source: Heusel et al. 2017 (arXiv:1706.08500) for the Frechet distance in features; here they are those of digits.
"""

from __future__ import annotations

import statistics

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffutils.device import make_generator
from diffutils.frechet import frechet_distance

FEATURES, SPLITS, STEPS, BATCH = 64, 20, 800, 64


class Classifier(nn.Module):
    """Two convolutions, a layer of features and the digit: images (B, 1, H, W) -> log odds (B, 10)."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(32 * (side // 4) ** 2, FEATURES), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(FEATURES, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(self.body(x), 0.3, self.training))


def trained(images: Tensor, labels: Tensor) -> Classifier:
    """Return a classifier trained on images that are moved about by a twelfth of their side."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, reach = Classifier(images.shape[-1]), max(1, images.shape[-1] // 12)
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
        for _ in range(STEPS):
            index = torch.randint(len(images), (BATCH,))
            optimizer.zero_grad()
            F.cross_entropy(model(_moved(images[index], reach)), labels[index]).backward()
            optimizer.step()
    return model.eval()


def _moved(images: Tensor, reach: int) -> Tensor:
    """Return images of black ground (-1) moved by up to ``reach`` pixels each way, a batch alike."""
    side = images.shape[-1]
    down, right = torch.randint(2 * reach + 1, (2,)).tolist()
    return F.pad(images, [reach] * 4, value=-1.0)[:, :, down : down + side, right : right + side]


class Judge:
    """Figures of samples of one data set.

    Args:
        train: images (N, 1, H, W) and labels (N,), seen by the contenders and by the classifier.
        held_out: images and labels that neither has seen; an even number.
    """

    def __init__(self, train: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor]) -> None:
        self.classifier = trained(*train)
        self.train, self.real = train[0], held_out[0]
        self.accuracy = float((self._logits(self.real).argmax(1) == held_out[1]).double().mean())
        generator, features = make_generator(0), self._features(self.real)
        self.halves = [
            features[torch.randperm(len(features), generator=generator)].chunk(2) for _ in range(SPLITS)
        ]
        self.floor = statistics.mean(frechet_distance(other, reference) for other, reference in self.halves)
        self.real_distance = self._nearest(self.real)

    def quality(self, x: Tensor) -> dict[str, float]:
        """Return the Frechet distance in floors, the classifier's confidence and the nearest-neighbour ratio.

        Args:
            x: samples, as many as there are held-out images, in [-1, 1]; empty results stand for samples not finite.
        """
        if not torch.isfinite(x).all():
            return {}
        generator, features = make_generator(1), self._features(x)
        distances = []
        for _, reference in self.halves:
            drawn = torch.randperm(len(features), generator=generator)[: len(reference)]
            distances.append(frechet_distance(features[drawn], reference))
        return {
            "frechet": statistics.mean(distances) / self.floor,
            "confidence": self._confidence(x),
            "nearest": self._nearest(x) / self.real_distance,
        }

    def real_figures(self) -> dict[str, float]:
        """Return the same figures of the held-out images; the distance is 1 by its definition."""
        return {"frechet": 1.0, "confidence": self._confidence(self.real), "nearest": 1.0}

    @torch.no_grad()
    def _features(self, x: Tensor) -> Tensor:
        return self.classifier.body(x)

    @torch.no_grad()
    def _logits(self, x: Tensor) -> Tensor:
        return self.classifier(x)

    def _confidence(self, x: Tensor) -> float:
        return float(self._logits(x).softmax(1).amax(1).mean())

    def _nearest(self, x: Tensor) -> float:
        """Return the median distance of an image to the nearest training image, in pixels' units."""
        return float(torch.cdist(x.flatten(1), self.train.flatten(1)).amin(1).median())
