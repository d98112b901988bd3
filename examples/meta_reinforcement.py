"""Teach a recurrent policy to learn a bandit from its rewards (RL²), and compare it with the rules made for bandits.

Each task is a bandit of three arms with chances of its own, which the policy finds out by ten pulls.
"""

import torch

from streammeta.meta.objective import Outer
from streammeta.meta.optimizer import adam
from streammeta.meta.rl import Rl2Settings, TrialSchedule, bandits, evaluate, gittins, random_arms, rl2, thompson, train


def main() -> None:
    """Train for some seconds, then play a thousand fresh bandits."""
    torch.set_num_threads(1)  # small matrices
    environment = bandits(3)
    settings = Rl2Settings(
        width=16, discount=1.0, trace=0.9, batches=1, learns_from="regret", outer=Outer(adam(1e-2), largest_norm=0.5)
    )
    learner = rl2(environment, settings)

    state = train(learner, environment, TrialSchedule(updates=400, tasks=200, episodes=10))

    policies = {
        "random": random_arms(3),
        "Thompson": thompson(3),
        "RL²": learner.agent(state.theta),
        "Gittins": gittins(3, 10),
    }
    for name, policy in policies.items():
        print(f"{name:8} earns {evaluate(environment, policy, episodes=10)} of 10")


if __name__ == "__main__":
    main()
