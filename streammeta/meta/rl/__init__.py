"""Meta-reinforcement: policies that learn a new task from its rewards, and how they are taught that.

Environments, many tasks at once: `bandits`, `tabular`. What a learned policy is compared with: `bandit_rules`,
`tabular_rules`. Methods, one short file each: `rl2`. `train` and `evaluate` play trials.
"""

from streammeta.meta.rl.bandit_rules import (
    Pulls,
    epsilon_greedy,
    gittins,
    gittins_indices,
    random_arms,
    thompson,
    ucb1,
)
from streammeta.meta.rl.bandits import bandits
from streammeta.meta.rl.base import Agent, Environment, Tasks, Transition, Trial, play
from streammeta.meta.rl.network import Recurrent, gru
from streammeta.meta.rl.rl2 import Rl2, Rl2Memory, Rl2Settings, advantages, rl2
from streammeta.meta.rl.tabular import optimal_values, tabular
from streammeta.meta.rl.tabular_rules import Counts, greedy_model, posterior_sampling, random_actions
from streammeta.meta.rl.training import Returns, TrialSchedule, evaluate, train

__all__ = [
    "Agent",
    "Counts",
    "Environment",
    "Pulls",
    "Recurrent",
    "Returns",
    "Rl2",
    "Rl2Memory",
    "Rl2Settings",
    "Tasks",
    "Transition",
    "Trial",
    "TrialSchedule",
    "advantages",
    "bandits",
    "epsilon_greedy",
    "evaluate",
    "gittins",
    "gittins_indices",
    "greedy_model",
    "gru",
    "optimal_values",
    "play",
    "posterior_sampling",
    "random_actions",
    "random_arms",
    "rl2",
    "tabular",
    "thompson",
    "train",
    "ucb1",
]
