"""What the engine and the training loop rely on in a meta-learner, checked on sinusoids. Raises AssertionError."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from streammeta.episode.sinusoid import sinusoids
from streammeta.meta.base import Kind
from streammeta.meta.learner import Examples, Learner, TaskBatch

__all__ = ["check_learner"]

_TASKS, _SUPPORT, _QUERY = 3, 6, 4


def check_learner(learner: Learner, kind: Kind = "regression") -> None:
    """Hold a learner with one input, and one output or two classes, to the contract of ``streammeta.meta.learner``.

    Its functions are pure and repeat; shapes and dtypes are as its layout says; tasks do not mix; absent examples do
    not count; a task without examples keeps its state; an update changes θ, and what it leaves is finite.

    Raises:
        AssertionError: it breaks a part of the contract, which the message names.
    """
    tasks = sinusoids(kind).train(torch.Generator().manual_seed(1), _TASKS, _SUPPORT, _QUERY)
    theta = learner.init(torch.Generator().manual_seed(0))
    _check_purity(learner, theta, tasks)
    _check_shapes(learner, theta, tasks, outputs=1 if kind == "regression" else 2)
    _check_tasks_do_not_mix(learner, theta, tasks)
    _check_update(learner, theta, tasks)


def _check_purity(learner: Learner, theta: dict[str, torch.Tensor], tasks: TaskBatch) -> None:
    state, phi = learner.begin(theta), learner.start(theta, _TASKS)
    before = [tensor.clone() for tensor in _tensors((theta, phi, tasks, state))]

    def work() -> list[torch.Tensor]:
        adapted = learner.adapt(theta, phi, tasks.support)
        said = learner.predict(theta, adapted, tasks.query.x)
        return list(_tensors((adapted, said.output, learner.update(state, tasks))))

    first, again = work(), work()
    kept = all(_equal(old, new) for old, new in zip(before, _tensors((theta, phi, tasks, state)), strict=True))
    _hold(kept, "a function changes its arguments; wanted pure functions: copy before you change")
    _hold(all(map(_equal, first, again)), "the same arguments give other results; wanted no hidden state or chance")


def _check_shapes(learner: Learner, theta: dict[str, torch.Tensor], tasks: TaskBatch, *, outputs: int) -> None:
    phi = learner.adapt(theta, learner.start(theta, _TASKS), tasks.support)
    said = learner.predict(theta, phi, tasks.query.x)
    wanted = (_TASKS, _QUERY, outputs)
    _hold(said.output.shape == wanted, f"predict gives output of shape {tuple(said.output.shape)}, wanted {wanted}")
    if said.variance is not None:
        _hold(said.variance.shape == wanted, f"the variance has shape {tuple(said.variance.shape)}, wanted {wanted}")
        _hold(bool((said.variance > 0).all()), "a variance is 0 or negative; wanted it above 0")
    first = [name for name, tensor in phi.items() if tensor.shape[0] != _TASKS]
    _hold(not first, f"φ {', '.join(first)} has another first dimension than the tasks, {_TASKS}")


def _check_tasks_do_not_mix(learner: Learner, theta: dict[str, torch.Tensor], tasks: TaskBatch) -> None:
    mask = tasks.support.mask.clone()
    mask[0, _QUERY:] = 0  # of the first task only four examples are there
    x = torch.where(mask.unsqueeze(-1) > 0, tasks.support.x, 77.0)
    together = learner.adapt(theta, learner.start(theta, _TASKS), Examples(x, tasks.support.y, mask))
    short = Examples(*(tensor[:1, :_QUERY] for tensor in tasks.support))
    alone = learner.adapt(theta, learner.start(theta, 1), short)
    one = learner.predict(theta, together, tasks.query.x).output[:1]
    other = learner.predict(theta, alone, tasks.query.x[:1]).output
    same = torch.allclose(one, other, atol=2e-5, rtol=1e-4)
    _hold(same, "a task beside others, padded, is predicted otherwise than alone; wanted `mask` heeded, tasks apart")

    nothing = tasks.support._replace(mask=torch.zeros_like(tasks.support.mask))
    before = learner.predict(theta, together, tasks.query.x).output
    after = learner.predict(theta, learner.adapt(theta, together, nothing), tasks.query.x).output
    _hold(torch.allclose(before, after), "adapting to no example changes φ; wanted it as it was")


def _check_update(learner: Learner, theta: dict[str, torch.Tensor], tasks: TaskBatch) -> None:
    state = learner.update(learner.begin(theta), tasks)
    shapes = {name: tensor.shape for name, tensor in state.theta.items()}
    _hold(shapes == {name: tensor.shape for name, tensor in theta.items()}, "an update changes names or shapes of θ")
    _hold(any(not torch.equal(state.theta[name], theta[name]) for name in theta), "an update leaves θ as it was")
    _hold(all(bool(t.isfinite().all()) for t in _tensors(state)), "an update leaves numbers that are not finite")


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """The same numbers; what is not a number equals itself here."""
    return one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())


def _tensors(tree: Any) -> Iterator[torch.Tensor]:  # noqa: ANN401 a tensor, or a tree of them
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for part in tree.values():
            yield from _tensors(part)
    elif isinstance(tree, tuple):
        for part in tree:
            yield from _tensors(part)


def _hold(claim: bool, otherwise: str) -> None:
    if not claim:
        raise AssertionError(f"learner: {otherwise}")
