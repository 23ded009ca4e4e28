"""Minimum cuts of small graphs.

In: edges with capacities. Out: the vertices on the sink's side of the cheapest cut, of several
cheapest ones that with the fewest vertices. Dinic's algorithm.

>>> network = Network()
>>> network.edge("source", "a", 3), network.edge("a", "b", 2), network.edge("b", "sink", 5)
>>> network.cut("source", "sink")
{'b', 'sink'}
"""

from __future__ import annotations

from collections.abc import Hashable

ENDLESS = 1 << 60


class Network:
    """A directed graph; vertices are whatever can be a key."""

    def __init__(self) -> None:
        self.number: dict[Hashable, int] = {}
        self.ends: list[int] = []  # of arc k, whose reverse is arc k ^ 1
        self.room: list[int] = []  # what arc k can still take
        self.arcs: list[list[int]] = []  # that leave a vertex

    def edge(self, a: Hashable, b: Hashable, capacity: int) -> None:
        for end, begin, room in ((b, a, capacity), (a, b, 0)):
            self._vertex(begin), self._vertex(end)
            self.arcs[self.number[begin]].append(len(self.ends))
            self.ends.append(self.number[end])
            self.room.append(room)

    def _vertex(self, name: Hashable) -> int:
        if name not in self.number:
            self.number[name] = len(self.arcs)
            self.arcs.append([])
        return self.number[name]

    def cut(self, source: Hashable, sink: Hashable) -> set[Hashable]:
        """The vertices from which the sink can still be reached when no more can flow."""
        start, stop = self._vertex(source), self._vertex(sink)
        while True:
            level = self._levels(start)
            if level[stop] < 0:
                break
            tried = [0] * len(self.arcs)
            while self._push(start, stop, level, tried):
                pass
        names = list(self.number)
        found, stack = {stop}, [stop]
        while stack:
            for arc in self.arcs[stack.pop()]:
                before = self.ends[arc]
                if self.room[arc ^ 1] and before not in found:
                    found.add(before)
                    stack.append(before)
        return {names[i] for i in found}

    def _levels(self, start: int) -> list[int]:
        """Distances from the source along arcs with room; -1 where there is no way."""
        level = [-1] * len(self.arcs)
        level[start] = 0
        line = [start]
        for vertex in line:
            for arc in self.arcs[vertex]:
                if self.room[arc] and level[self.ends[arc]] < 0:
                    level[self.ends[arc]] = level[vertex] + 1
                    line.append(self.ends[arc])
        return level

    def _push(self, start: int, stop: int, level: list[int], tried: list[int]) -> bool:
        """Sends what it can along one more path; False when there is none. `tried` counts the
        arcs of each vertex that lead nowhere."""
        path: list[int] = []
        vertex = start
        while vertex != stop:
            arcs = self.arcs[vertex]
            while tried[vertex] < len(arcs):
                arc = arcs[tried[vertex]]
                if self.room[arc] and level[self.ends[arc]] == level[vertex] + 1:
                    break
                tried[vertex] += 1
            else:
                if vertex == start:
                    return False
                vertex = self.ends[path.pop() ^ 1]
                tried[vertex] += 1
                continue
            path.append(arc)
            vertex = self.ends[arc]
        amount = min(self.room[arc] for arc in path)
        for arc in path:
            self.room[arc] -= amount
            self.room[arc ^ 1] += amount
        return True
