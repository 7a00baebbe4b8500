"""Batch inference: score generated documents in chunks, and write each chunk once.

    python infer.py --chunks 20

It is safe to run again: finished chunks are found and skipped.
"""

from __future__ import annotations

import argparse
import os

import numpy as np
from common import Notice, begin, checkpoint_folder, progress, requeue

DOCUMENTS = 400  # per chunk
WORDS = 256
WIDTH = 384


def layers() -> list[np.ndarray]:
    """Return the weights of a fixed network: one that someone trained before."""
    chance = np.random.default_rng(7)
    shapes = [(WORDS, WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, 4)]
    return [chance.normal(0, shape[0] ** -0.5, shape) for shape in shapes]


def score(documents: np.ndarray, network: list[np.ndarray]) -> np.ndarray:
    """Return the odds of the four topics for each document."""
    hidden = documents
    for weights in network[:-1]:
        hidden = np.tanh(hidden @ weights)
    raw = np.exp(hidden @ network[-1])
    odds: np.ndarray = raw / raw.sum(1, keepdims=True)
    return odds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=20)
    parser.add_argument("--passes", type=int, default=12, help="perturbed copies scored per chunk")
    args = parser.parse_args()
    begin()
    notice = Notice()
    folder = checkpoint_folder()
    network = layers()
    seed = int(os.environ.get("FAIRLEAD_ARRAY_INDEX", "0"))
    for chunk in range(args.chunks):
        done = folder / f"chunk-{chunk}.npy"
        if not done.exists():
            chance = np.random.default_rng([seed, chunk])
            documents = chance.poisson(0.4, (DOCUMENTS, WORDS)).astype(float)
            odds = np.zeros((DOCUMENTS, 4))
            for _ in range(args.passes):  # averaged over noise: steadier answers
                odds += score(documents + chance.normal(0, 0.05, documents.shape), network)
            fresh = done.with_suffix(".new.npy")
            np.save(fresh, odds / args.passes)
            os.replace(fresh, done)
        progress(chunk + 1, args.chunks, f"{(chunk + 1) * DOCUMENTS} documents")
        if notice and chunk + 1 < args.chunks:
            requeue()
    topics = [np.load(folder / f"chunk-{chunk}.npy").argmax(1) for chunk in range(args.chunks)]
    counts = np.bincount(np.concatenate(topics), minlength=4)
    print("documents by topic:", *counts, flush=True)


if __name__ == "__main__":
    main()
