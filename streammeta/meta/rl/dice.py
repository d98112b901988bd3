"""Expected returns that can be differentiated as often as wanted, though chance is between θ and a return."""

import torch

__all__ = ["loaded_dice", "naive_surrogate"]


def loaded_dice(log_chance: torch.Tensor, advantage: torch.Tensor, decay: float = 1.0) -> torch.Tensor:
    """An estimate whose value is 0 and whose derivatives, of any order, are those of the expected return.

        Σ_t (f(w_t) − f(v_t)) A_t,    v_t = λ w_{t−1},   w_t = v_t + log π(a_t | s_t),   f(x) = exp(x − stop(x))

    Differentiated twice it has, beside ∇² log π_t, the products of the scores of a step with its own and with those of
    all steps before: they say how θ changes what is visited. A surrogate Σ log π_t A_t has none of them. A baseline
    b(s_t) in A_t = R_t − b(s_t) changes no derivative's mean, since what it multiplies has the mean 0.

    Args:
        log_chance: log π(a_t | s_t), [H, ...], a differentiable function of θ.
        advantage: A_t, [H, ...]: what was earned from t on, less a baseline. Not differentiated.
        decay: λ; below 1, less variance of second derivatives, and a bias.

    Returns:
        The sum over t: [...].

    Sources:
        Foerster et al. (2018), arXiv:1802.05098 (DiCE); Farquhar, Whiteson & Foerster (2019), arXiv:1909.10549,
        Algorithm 1 (Loaded DiCE); for MAML, Rothfuss et al. (2019), arXiv:1810.06784.
    """
    before = torch.zeros_like(log_chance[0])
    total = torch.zeros_like(log_chance[0])
    for logged, worth in zip(log_chance, advantage.detach(), strict=True):
        after = before + logged
        total = total + (_one(after) - _one(before)) * worth
        before = decay * after
    return total


def naive_surrogate(log_chance: torch.Tensor, advantage: torch.Tensor) -> torch.Tensor:
    """Σ_t log π_t A_t: the right gradient, and a wrong second derivative; for comparison."""
    return (log_chance * advantage.detach()).sum(0)


def _one(x: torch.Tensor) -> torch.Tensor:
    """1, with the derivative of exp(x)."""
    return (x - x.detach()).exp()
