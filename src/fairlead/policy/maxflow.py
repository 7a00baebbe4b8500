"""Maximum flow on integers, by Dinic's algorithm (1970): levels, then blocking flows."""

from __future__ import annotations


class Network:
    """Nodes from 0 and arcs with whole capacities; O(nodes^2 x arcs), far less on layered ones."""

    def __init__(self, nodes: int) -> None:
        self.arcs: list[list[int]] = [[] for _ in range(nodes)]  # numbers of the arcs of a node
        self.head: list[int] = []  # arc n leads to head[n]; n ^ 1 is the same arc backwards
        self.left: list[int] = []  # capacity not used

    def connect(self, tail: int, head: int, capacity: int) -> int:
        """Add an arc and return its number."""
        number = len(self.head)
        self.head += (head, tail)
        self.left += (capacity, 0)
        self.arcs[tail].append(number)
        self.arcs[head].append(number + 1)
        return number

    def flow_of(self, arc: int) -> int:
        """Return what flows through an arc."""
        return self.left[arc ^ 1]

    def maximise(self, source: int, sink: int) -> int:
        """Push as much as fits from source to sink; return how much was added."""
        total = 0
        while True:
            level = self._levels(source)
            if level[sink] < 0:
                return total
            tried = [0] * len(self.arcs)
            while pushed := self._augment(source, sink, level, tried):
                total += pushed

    def _levels(self, source: int) -> list[int]:
        """Return the distance of each node from the source over arcs with room, -1: none."""
        level = [-1] * len(self.arcs)
        level[source] = 0
        wave = [source]
        while wave:
            further = []
            for node in wave:
                for arc in self.arcs[node]:
                    head = self.head[arc]
                    if self.left[arc] and level[head] < 0:
                        level[head] = level[node] + 1
                        further.append(head)
            wave = further
        return level

    def _augment(self, source: int, sink: int, level: list[int], tried: list[int]) -> int:
        """Push along one shortest path; `tried` skips arcs that lead nowhere in this phase."""
        path: list[int] = []
        node = source
        while node != sink:
            arcs = self.arcs[node]
            while tried[node] < len(arcs):
                arc = arcs[tried[node]]
                head = self.head[arc]
                if self.left[arc] and level[head] == level[node] + 1:
                    path.append(arc)
                    node = head
                    break
                tried[node] += 1
            else:
                if not path:
                    return 0
                node = self.head[path.pop() ^ 1]
                tried[node] += 1
        pushed = min(self.left[arc] for arc in path)
        for arc in path:
            self.left[arc] -= pushed
            self.left[arc ^ 1] += pushed
        return pushed
