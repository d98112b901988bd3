"""Meta-reinforcement: policies that learn a new task from its rewards, and how they are taught that.

Environments, many tasks at once: `bandits`, `tabular`, `cues`, `navigation`. What a learned policy is compared with:
`bandit_rules`, `tabular_rules`, `bootstrap`. Methods, one file each: `rl2`, `r2d2` (its parts of trials in `replay`),
`maml` (its derivatives in `dice`). `train` and `evaluate` play trials.
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
from streammeta.meta.rl.base import Agent, Environment, PolicyLearner, Tasks, Transition, Trial, play
from streammeta.meta.rl.bootstrap import Heads, bootstrapped
from streammeta.meta.rl.cues import cues
from streammeta.meta.rl.dice import loaded_dice, naive_surrogate
from streammeta.meta.rl.maml import Adaptation, MamlMemory, MamlSettings, maml_policy
from streammeta.meta.rl.navigation import navigation
from streammeta.meta.rl.network import Recurrent, RecurrentMemory, gru
from streammeta.meta.rl.r2d2 import R2d2Settings, R2d2State, r2d2
from streammeta.meta.rl.replay import Replay, rescaled, restored, sequences
from streammeta.meta.rl.rl2 import Rl2Settings, advantages, rl2
from streammeta.meta.rl.tabular import optimal_values, tabular
from streammeta.meta.rl.tabular_rules import Counts, greedy_model, posterior_sampling, random_actions
from streammeta.meta.rl.training import Returns, TrialSchedule, evaluate, train

__all__ = [
    "Adaptation",
    "Agent",
    "Counts",
    "Environment",
    "Heads",
    "MamlMemory",
    "MamlSettings",
    "PolicyLearner",
    "Pulls",
    "R2d2Settings",
    "R2d2State",
    "Recurrent",
    "RecurrentMemory",
    "Replay",
    "Returns",
    "Rl2Settings",
    "Tasks",
    "Transition",
    "Trial",
    "TrialSchedule",
    "advantages",
    "bandits",
    "bootstrapped",
    "cues",
    "epsilon_greedy",
    "evaluate",
    "gittins",
    "gittins_indices",
    "greedy_model",
    "gru",
    "loaded_dice",
    "maml_policy",
    "naive_surrogate",
    "navigation",
    "optimal_values",
    "play",
    "posterior_sampling",
    "r2d2",
    "random_actions",
    "random_arms",
    "rescaled",
    "restored",
    "rl2",
    "sequences",
    "tabular",
    "thompson",
    "train",
    "ucb1",
]
