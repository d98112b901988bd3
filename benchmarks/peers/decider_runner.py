"""Runs streammeta's decisions."""

from benchmarks.peers.bandit_loop import Bandit, Decider, Event, run
from streammeta.decisions import MetaDecider
from streammeta.engine.settings import Exploration

__all__ = ["make"]

_EXPLORATIONS: dict[str, Exploration] = {
    "streammeta": "inverse_gap",
    "streammeta greedy": "greedy",
    "streammeta thompson": "thompson",
}


class _Own:
    def __init__(self, job: Bandit, actions: int) -> None:
        self._decider = MetaDecider(range(actions), "task", exploration=_EXPLORATIONS[job.learner], seed=job.seed)

    def choose(self, event: Event) -> int:
        x = dict(zip(event.names, event.x.tolist(), strict=True)) | {"task": event.task}
        action = self._decider.choose_one(x, id=event.number).action
        assert isinstance(action, int)
        return action

    def learn(self, event: Event, action: int, reward: float) -> None:
        self._decider.reward_one(event.number, reward)


def make(job: Bandit, actions: int) -> Decider:
    """The decider that the job names."""
    return _Own(job, actions)


if __name__ == "__main__":
    run(make)
