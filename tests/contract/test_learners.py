"""What every meta-learning method promises, held for each by its name in the catalogue."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from streammeta.episode.sinusoid import sinusoids
from streammeta.meta import catalogue, methods
from streammeta.meta.catalogue import METHODS, Problem, Tuning, build, methods_for
from streammeta.meta.learner import (
    Examples,
    Learner,
    TaskBatch,
    cross_entropy,
    moved,
    negative_log_likelihood,
    served,
    squared_error,
    task_mean,
)
from streammeta.meta.methods import imaml, learned_optimizer
from streammeta.meta.objective import Outer
from streammeta.meta.optimizer import adam
from streammeta.model import mlp
from streammeta.offline.store import Trained, load, store

T, SUPPORT, QUERY = 3, 6, 4
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


CASES = [(kind, name) for kind in ("regression", "classification") for name in methods_for(kind)]
DIFFERENTIATED = [case for case in CASES if case[1] != "fomaml"]  # whose gradient test_maml.py has, made by hand
every = pytest.mark.parametrize(("kind", "name"), CASES)


def _problem(kind: str) -> Problem:
    return Problem(kind, inputs=1, outputs=1 if kind == "regression" else 2, hidden=(16, 16))


def _tasks(kind: str, *, tasks: int = T, seed: int = 1) -> TaskBatch:
    return sinusoids(kind).train(torch.Generator().manual_seed(seed), tasks, SUPPORT, QUERY)


def _learner(kind: str, name: str, **tuning) -> Learner:
    return build(name, _problem(kind), Tuning(**tuning))


def _copies(*trees) -> list[torch.Tensor]:
    return [tensor.clone() for tree in trees for tensor in _tensors(tree)]


def _tensors(tree) -> Iterator[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, dict):
        yield from tree.values()
    elif isinstance(tree, tuple):
        for part in tree:
            yield from _tensors(part)


def test_no_method_is_left_out():
    """A new method that nobody added to the catalogue would be held to nothing in this file."""
    factories = set(methods.__all__) - {"attacked"}  # which attacks a learner, and is none

    assert {name for _, name in CASES} == set(METHODS)
    assert {name for _, name in DIFFERENTIATED} == set(METHODS) - {"fomaml"}
    assert len(CASES) == sum(len(kinds) for kinds, _ in METHODS.values())
    assert all(getattr(catalogue, name) is getattr(methods, name) for name in factories)


@every
def test_functions_are_pure(kind: str, name: str):
    """A method that writes into θ, φ or the episodes makes one task's learning another's noise."""
    learner, tasks = _learner(kind, name), _tasks(kind)
    theta = learner.init(torch.Generator().manual_seed(0))
    state, phi = learner.begin(theta), learner.start(theta, T)
    before = _copies(theta, phi, tasks, state)

    first = [learner.adapt(theta, phi, tasks.support), learner.predict(theta, phi, tasks.query.x).output]
    first += [learner.loss(theta, tasks), learner.update(state, tasks)]
    again = [learner.adapt(theta, phi, tasks.support), learner.predict(theta, phi, tasks.query.x).output]
    again += [learner.loss(theta, tasks), learner.update(state, tasks)]

    for old, new in zip(before, _copies(theta, phi, tasks, state), strict=True):
        assert torch.equal(old, new)
    for one, other in zip(_tensors(tuple(first)), _tensors(tuple(again)), strict=True):
        assert torch.equal(one, other)


@every
@pytest.mark.parametrize("device", DEVICES)
def test_shapes_and_devices(kind: str, name: str, device: str):
    """What comes out must fit what the caller was told, where the caller's tensors are."""
    learner, tasks = _learner(kind, name), moved(_tasks(kind), torch.device(device))
    theta = {n: p.to(device) for n, p in learner.init(torch.Generator().manual_seed(0)).items()}
    outputs = _problem(kind).outputs

    phi = learner.adapt(theta, learner.start(theta, T), tasks.support)
    answer = learner.predict(theta, phi, tasks.query.x)
    state = learner.update(learner.begin(theta), tasks)

    assert answer.output.shape == (T, QUERY, outputs)
    assert answer.variance is None or (answer.variance.shape == (T, QUERY, outputs) and answer.variance.min() > 0)
    assert all(p.shape[0] == T and p.device.type == device for p in phi.values())
    assert {n: p.shape for n, p in state.theta.items()} == {n: p.shape for n, p in theta.items()}
    assert all(tensor.device.type == device for tensor in _tensors(state))
    assert any(not torch.equal(p, theta[n]) for n, p in state.theta.items())


@every
def test_tasks_do_not_mix_and_absent_examples_do_not_count(kind: str, name: str):
    """A batch is many tasks side by side: each must get what it would get alone, whatever pads the others."""
    learner, tasks = _learner(kind, name), _tasks(kind)
    theta = learner.init(torch.Generator().manual_seed(0))
    mask = tasks.support.mask.clone()
    mask[0, 4:] = 0
    padded = Examples(torch.where(mask.unsqueeze(-1) > 0, tasks.support.x, 77.0), tasks.support.y, mask)

    together = learner.adapt(theta, learner.start(theta, T), padded)
    answers = learner.predict(theta, together, tasks.query.x).output

    short = Examples(*(tensor[:1, :4] for tensor in tasks.support))
    alone = learner.adapt(theta, learner.start(theta, 1), short)
    torch.testing.assert_close(
        learner.predict(theta, alone, tasks.query.x[:1]).output, answers[:1], atol=2e-5, rtol=1e-4
    )


@every
def test_a_task_without_examples_stays_as_it_is(kind: str, name: str):
    """The stream adapts the tasks that have an event; the others in the batch must keep their state."""
    learner, tasks = _learner(kind, name), _tasks(kind)
    theta = learner.init(torch.Generator().manual_seed(0))
    phi = learner.adapt(theta, learner.start(theta, T), tasks.support)
    nothing = tasks.support._replace(mask=torch.zeros_like(tasks.support.mask))

    after = learner.adapt(theta, phi, nothing)

    torch.testing.assert_close(
        learner.predict(theta, after, tasks.query.x).output, learner.predict(theta, phi, tasks.query.x).output
    )


def _double(kind: str, name: str) -> Learner:
    """The learner whose meta-objective is exactly differentiable: no gradient left out, the inner problem solved."""
    task_loss, outputs = (squared_error, 1) if kind == "regression" else (cross_entropy, 2)
    if name == "imaml":
        model = mlp(1, (5,), outputs, activation="tanh")
        return imaml(model, task_loss, strength=4.0, inner_steps=20, cg_steps=40, exact=True)
    if name == "learned-optimizer":
        return learned_optimizer(mlp(1, (5,), outputs), task_loss, steps=3, width=4, second_order=True)
    return _learner(kind, name)


@pytest.mark.parametrize(("kind", "name"), DIFFERENTIATED)
def test_gradient_of_the_meta_objective_is_the_finite_difference(kind: str, name: str):
    """OML, ANML and La-MAML shipped with gradients that were silently wrong: nothing else would notice."""
    learner, tasks = _double(kind, name), moved(_tasks(kind), torch.float64)
    generator = torch.Generator().manual_seed(3)
    theta = {n: p.double().requires_grad_() for n, p in learner.init(generator).items()}
    theta = {
        n: (p + 0.02 * torch.randn(p.shape, generator=generator)).detach().requires_grad_() for n, p in theta.items()
    }
    slopes = torch.autograd.grad(learner.loss(theta, tasks), list(theta.values()))

    for _ in range(3):
        way = {n: torch.randn(p.shape, generator=generator, dtype=torch.float64) for n, p in theta.items()}
        step = 1e-8  # so small that no ReLU changes its side between the two

        def at(size: float, way=way) -> float:
            return learner.loss({n: (p + size * way[n]).detach() for n, p in theta.items()}, tasks).item()

        expected = (at(step) - at(-step)) / (2 * step)
        found = sum((g * way[n]).sum().item() for n, g in zip(theta, slopes, strict=True))
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


@every
def test_nothing_is_kept_of_a_meta_update(kind: str, name: str):
    """iMAML once kept every graph, half a megabyte an update: a stream that runs for months would fill the memory."""
    learner, tasks = _learner(kind, name), _tasks(kind)
    state = learner.begin(learner.init(torch.Generator().manual_seed(0)))

    gc.freeze()  # what there is so far is not looked through again
    alive = []
    for _ in range(3):
        state = learner.update(state, tasks)
        gc.collect()
        alive.append(sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects()))
    gc.unfreeze()

    assert alive[2] == alive[1]


@every
def test_a_bad_number_stays_out(kind: str, name: str):
    """One NaN in one episode must not cost all that was learned."""
    learner, tasks = _learner(kind, name), _tasks(kind)
    state = learner.update(learner.begin(learner.init(torch.Generator().manual_seed(0))), tasks)
    x = tasks.support.x.clone()
    x[0, 0] = float("nan")

    after = learner.update(state, TaskBatch(tasks.support._replace(x=x), tasks.query._replace(x=x[:, :QUERY])))

    if name != "mixture":  # whose other members, with other tasks, go on
        assert all(torch.equal(p, state.theta[n]) for n, p in after.theta.items())
    assert all(p.isfinite().all() for p in after.theta.values())
    assert after.refused == 1
    assert learner.update(after, tasks).refused == 1


@every
def test_a_stored_state_goes_on_as_if_nothing_had_happened(kind: str, name: str, tmp_path: Path):
    """θ, the optimizer's memory and φ must all be plain tensors that a file can hold."""
    learner, tasks = _learner(kind, name), _tasks(kind)
    state = learner.update(learner.begin(learner.init(torch.Generator().manual_seed(0))), tasks)
    phi = learner.adapt(state.theta, learner.start(state.theta, T), tasks.support)

    store(tmp_path / "theta", Trained(state._replace(anchor=phi), {"method": name}))
    loaded = load(tmp_path / "theta").state

    here, there = (learner.update(each, tasks) for each in (state, loaded._replace(anchor=state.anchor)))
    assert all(torch.equal(one, other) for one, other in zip(_tensors(here), _tensors(there), strict=True))
    answer, again = (learner.predict(state.theta, each, tasks.query.x).output for each in (phi, loaded.anchor))
    assert torch.equal(answer, again)


_UPDATES = {"reptile": 400, "maml": 400, "fomaml": 400, "adml": 400, "maml-ema": 1_000, "lstm": 400, "gru": 700}
_UPDATES |= {"learned-optimizer": 400, "metaoptnet": 100}
_RATES = dict.fromkeys(("maml", "fomaml", "adml", "maml-ema", "reptile"), 0.3) | {"anil": 1.0}  # classes


@every
def test_adapting_helps_on_sinusoids_never_seen(kind: str, name: str):
    """The point of it all: after meta-training, ten examples of a new task must tell the learner something."""
    rate = _RATES.get(name) if kind == "classification" else {"anil": 0.1}.get(name)
    learner, family = _learner(kind, name, inner_rate=rate, outer=Outer(adam(3e-3))), sinusoids(kind)
    generator = torch.Generator().manual_seed(2)
    state = learner.begin(learner.init(generator))
    for _ in range(_UPDATES.get(name, 250)):
        state = learner.update(state, family.train(generator, 10, 10, 10))
    held_out, theta = family.test(torch.Generator().manual_seed(7), 100, 10, 20), served(state)

    fresh = learner.start(theta, 100)
    before = learner.predict(theta, fresh, held_out.query.x)
    after = learner.predict(theta, learner.adapt(theta, fresh, held_out.support), held_out.query.x)

    mask = held_out.query.mask
    losses = [task_mean(negative_log_likelihood(each, held_out.query.y), mask).mean() for each in (before, after)]
    assert losses[1] < 0.9 * losses[0]
