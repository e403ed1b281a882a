"""How many boots began and how they went, and how long each stage takes: counted as the timeline hears of it. Pure."""

from collections import Counter

from config.events import Stage
from pxeboot.metrics.histogram import BOOT_S, Histogram
from pxeboot.timeline import Boot, Step

GOALS = {Stage.SYSTEM: "up", Stage.JOINED: "joined", Stage.READY: "ready", Stage.DISK: "disk"}
"""The stages at which a boot counts as one that came so far, and how that is called."""
RESULTS = (*GOALS.values(), "failed")
_ASKING = frozenset((Stage.DISCOVER, Stage.ADDRESS))
_NO_PROGRESS = frozenset((Stage.FAILED, Stage.REFUSED))


class BootCounts:
    """What happened to all boots since the start."""

    def __init__(self) -> None:
        """Begin with none."""
        self.begun = 0
        """Boots that fetched something: whoever only asks for an address may be no machine of ours."""
        self.results: Counter[str] = Counter()
        """Boots by how far they came (`RESULTS`), each counted once for each; one that failed may still come up."""
        self.durations = {goal: Histogram(BOOT_S) for goal in GOALS.values() if goal != "disk"}
        """From a machine's first question until it was so far. A boot whose beginning we did not see is not here."""
        self.stages: dict[Stage, Histogram] = {}
        """From one stage to the next."""

    def entered(self, boot: Boot, step: Step) -> None:
        """Take in that a boot has a new step, its newest."""
        stage = step.stage
        if stage is Stage.REFUSED:
            return
        earlier = [past for past in boot.steps[:-1] if past.stage is not Stage.REFUSED]
        if earlier:
            before = earlier[-1]
            if before.stage is not Stage.FAILED:
                self.stages.setdefault(before.stage, Histogram(BOOT_S)).observe(
                    max(0.0, step.first_s - before.first_s)
                )
        if stage is Stage.FAILED:
            self.results["failed"] += all(past.stage is not stage for past in earlier)
            return
        if stage not in _ASKING and all(past.stage in _ASKING | _NO_PROGRESS for past in earlier):
            self.begun += 1
        goal = GOALS.get(stage)
        if goal is None or any(past.stage is stage for past in earlier):
            return
        self.results[goal] += 1
        if goal in self.durations and boot.steps[0].stage is Stage.DISCOVER:
            self.durations[goal].observe(max(0.0, step.first_s - boot.started_s))
