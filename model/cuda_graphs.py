"""Replaying a decode step as one CUDA graph: a launch per token instead of a thousand.

A graph repeats kernels on the addresses it was recorded with. So a step must read and write only tensors that
stay where they are, and must be recorded anew for other shapes; `generate` rounds its shapes up coarsely when
graphs are on. The first step of a shape runs as usual (and warms up the libraries), the second is recorded.
"""

from collections.abc import Callable, Hashable

import torch

Step = Callable[[], None]


class StepGraphs:
    """One graph per shape, in one memory pool."""

    def __init__(self, record: Callable[[Step], Step] | None = None) -> None:
        self.record = record or self.record_graph
        self.seen: set[Hashable] = set()
        self.replays: dict[Hashable, Step] = {}
        self.pool = None

    def run(self, shape: Hashable, step: Step) -> None:
        """Do `step`, by replay where its shape has been recorded."""
        if shape not in self.seen:
            self.seen.add(shape)
            step()
            return
        if shape not in self.replays:
            self.replays[shape] = self.record(step)
        self.replays[shape]()

    def record_graph(self, step: Step) -> Step:
        """Recording does not run the step; the replay does."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            step()
        self.pool = self.pool or graph.pool()
        return graph.replay

    def forget(self) -> None:
        """The tensors have moved: what was recorded is void."""
        self.seen.clear()
        self.replays.clear()
        self.pool = None


def graphs_for(device: torch.device, hook: object) -> StepGraphs | None:
    """Recorded steps where they can be had: on CUDA, and without a hook, which runs on the host."""
    return StepGraphs() if device.type == "cuda" and hook is None else None
