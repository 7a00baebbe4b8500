"""Gradient-boosted quantiles: scikit-learn grows the trees, numpy walks them one job at a time.

scikit-learn's own predict costs milliseconds for one row, a level at a time; a submission should
cost a tenth of one. So the trees of all levels are laid into one table and walked side by side.
Where a release of scikit-learn keeps its trees elsewhere, its own predict answers instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairlead.model.base import Misuse
from fairlead.predict.calibration import LEVELS

Floats = NDArray[np.float64]

TREES = 40
LEAVES = 16
DEPTH = 6
LEAST_IN_LEAF = 20
RATE = 0.12
SEED = 0


def need_sklearn() -> None:
    """Raise Misuse, saying what to install, where scikit-learn is missing."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        hint = "pip install 'fairlead[learn]', or use the predictor online"
        message = "the predictor learned needs scikit-learn"
        raise Misuse(message, field="predictor", hint=hint) from None


class Boosted:
    """One model per level, trained on rows of features and logarithms of run times."""

    def __init__(self, rows: Floats, logs: Floats, weights: Floats) -> None:
        from sklearn.ensemble import HistGradientBoostingRegressor

        # Rows are repeated, not weighted: a weighted quantile in every leaf makes scikit-learn
        # 1.9 twenty times slower (5 s instead of 0.2 s a level, 2,000 rows).
        times = repeats(weights)
        rows, logs = np.repeat(rows, times, axis=0), np.repeat(logs, times)

        self.models: list[Any] = [
            HistGradientBoostingRegressor(
                loss="quantile",
                quantile=level,
                max_iter=TREES,
                learning_rate=RATE,
                max_leaf_nodes=LEAVES,
                max_depth=DEPTH,
                min_samples_leaf=LEAST_IN_LEAF,
                early_stopping=False,
                random_state=SEED,
            ).fit(rows, logs)
            for level in LEVELS
        ]
        try:
            self._forest: _Forest | None = _Forest(self.models)
        except (AttributeError, KeyError, ValueError):
            self._forest = None

    def raw(self, row: Sequence[float]) -> list[float]:
        """Return the quantiles of one job's logarithm; they may cross."""
        if self._forest is not None:
            return self._forest.walk(np.asarray(row))
        return self.slow(row)

    def slow(self, row: Sequence[float]) -> list[float]:
        """Return the same by scikit-learn's own way."""
        rows = np.asarray(row, dtype=np.float64)[None, :]
        return [float(model.predict(rows)[0]) for model in self.models]


def repeats(weights: Floats) -> NDArray[np.int64]:
    """Return whole numbers that add up as the weights do, at every row to within a half."""
    upto = np.floor(np.cumsum(weights) + 0.5).astype(np.int64)
    found: NDArray[np.int64] = np.diff(upto, prepend=0)
    return found


class _Forest:
    """All trees of all levels in one table; a leaf leads to itself."""

    def __init__(self, models: Sequence[Any]) -> None:
        tables: list[tuple[Any, int]] = []
        roots: list[int] = []
        starts: list[int] = []
        offset = 0
        for model in models:
            starts.append(len(roots))
            for (tree,) in model._predictors:
                tables.append((tree.nodes, offset))
                roots.append(offset)
                offset += len(tree.nodes)
        leaf = np.concatenate([nodes["is_leaf"] for nodes, _ in tables]).astype(bool)
        self.feature = np.concatenate([nodes["feature_idx"] for nodes, _ in tables])
        self.threshold = np.concatenate([nodes["num_threshold"] for nodes, _ in tables])
        self.value = np.concatenate([nodes["value"] for nodes, _ in tables])
        own = np.arange(offset)
        left = np.concatenate([nodes["left"].astype(np.int64) + at for nodes, at in tables])
        right = np.concatenate([nodes["right"].astype(np.int64) + at for nodes, at in tables])
        self.left, self.right = np.where(leaf, own, left), np.where(leaf, own, right)
        self.feature = np.where(leaf, 0, self.feature)
        self.roots, self.starts = np.array(roots), np.array(starts)
        self.depth = max(int(nodes["depth"].max()) for nodes, _ in tables)
        self.base = np.array([float(np.ravel(model._baseline_prediction)[0]) for model in models])

    def walk(self, row: Floats) -> list[float]:
        at = self.roots
        for _ in range(self.depth):
            down = row[self.feature[at]] <= self.threshold[at]
            at = np.where(down, self.left[at], self.right[at])
        sums = self.base + np.add.reduceat(self.value[at], self.starts)
        found: list[float] = sums.tolist()
        return found
