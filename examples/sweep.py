"""Train one classifier of a sweep with scikit-learn; the array index chooses its parameters.

FAIRLEAD_ARRAY_INDEX=3 python sweep.py
"""

from __future__ import annotations

import argparse
import itertools
import os
import time

from common import begin, progress
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

GRID = list(itertools.product((4, 8, 12, 16), ("sqrt", 0.3)))  # depth x features per split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trees", type=int, default=40)
    args = parser.parse_args()
    begin()
    index = int(os.environ.get("FAIRLEAD_ARRAY_INDEX", "0"))
    depth, features = GRID[index % len(GRID)]
    images, digits = load_digits(return_X_y=True)
    began = time.monotonic()
    scores = []
    for fold in range(3):
        forest = RandomForestClassifier(
            args.trees, max_depth=depth, max_features=features, random_state=index + fold, n_jobs=1
        )
        scores.append(cross_val_score(forest, images, digits, cv=3).mean())
        progress(fold + 1, 3, f"depth {depth} features {features} accuracy {scores[-1]:.3f}")
    accuracy = sum(scores) / len(scores)
    print(f"result {index} {accuracy:.4f} in {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
