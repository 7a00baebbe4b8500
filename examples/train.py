"""Train a small neural network with numpy; checkpoint every step, resume where it stopped.

    python train.py --steps 60 --width 192

When Fairlead asks it to stop (SIGTERM) it leaves with exit code 75, "run me again", and the next
attempt goes on from the checkpoint. `--yield-at N` does the same by itself, once, at step N.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from common import Notice, begin, checkpoint_folder, progress, requeue

CLASSES = 8
FEATURES = 64
EXAMPLES = 6_000


def make_data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy points around one centre per class: learnable, but not at once."""
    chance = np.random.default_rng(seed)
    centres = chance.normal(0, 1, (CLASSES, FEATURES))
    labels = chance.integers(0, CLASSES, EXAMPLES)
    return np.tanh(centres[labels] + chance.normal(0, 2.5, (EXAMPLES, FEATURES))), labels


def start(width: int) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(0)
    shapes = {"w1": (FEATURES, width), "w2": (width, width), "w3": (width, CLASSES)}
    return {name: chance.normal(0, shape[0] ** -0.5, shape) for name, shape in shapes.items()}


def train_epoch(model: dict[str, np.ndarray], points: np.ndarray, labels: np.ndarray) -> float:
    """Run once over the data in small batches; change the model; return the mean loss."""
    losses = []
    for first in range(0, len(points), 200):
        x, y = points[first : first + 200], labels[first : first + 200]
        h1 = np.maximum(x @ model["w1"], 0)
        h2 = np.maximum(h1 @ model["w2"], 0)
        scores = h2 @ model["w3"]
        scores -= scores.max(1, keepdims=True)
        odds = np.exp(scores)
        odds /= odds.sum(1, keepdims=True)
        losses.append(-np.log(odds[np.arange(len(y)), y] + 1e-9).mean())
        odds[np.arange(len(y)), y] -= 1
        d3 = odds / len(y)
        d2 = (d3 @ model["w3"].T) * (h2 > 0)
        d1 = (d2 @ model["w2"].T) * (h1 > 0)
        model["w3"] -= 0.05 * h2.T @ d3
        model["w2"] -= 0.05 * h1.T @ d2
        model["w1"] -= 0.05 * x.T @ d1
    return float(np.mean(losses))


def save(path: Path, step: int, model: dict[str, np.ndarray]) -> None:
    """Write a checkpoint so that a crash leaves the old one or the new one, never half of one."""
    fresh = path.with_suffix(".new.npz")
    np.savez(fresh, step=step, **model)
    os.replace(fresh, path)


def load(path: Path, width: int) -> tuple[int, dict[str, np.ndarray]]:
    if not path.exists():
        return 0, start(width)
    with np.load(path) as saved:
        return int(saved["step"]), {name: saved[name] for name in ("w1", "w2", "w3")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--yield-at", type=int, default=0)
    args = parser.parse_args()
    begin()
    notice = Notice()
    path = checkpoint_folder() / "model.npz"
    step, model = load(path, args.width)
    first_attempt = step == 0
    if not first_attempt:
        print(f"resuming at step {step}", flush=True)
    points, labels = make_data(1)
    while step < args.steps:
        loss = train_epoch(model, points, labels)
        step += 1
        save(path, step, model)
        progress(step, args.steps, f"loss {loss:.3f}")
        if step < args.steps and (notice or (first_attempt and step == args.yield_at)):
            print(f"saved at step {step}; please run me again", flush=True)
            requeue()


if __name__ == "__main__":
    main()
