"""Conjugate gradient against systems solved by hand."""

import torch

from streammeta.meta.conjugate import conjugate_gradient

MATRICES = torch.tensor([[[2.0, 0.0], [0.0, 8.0]], [[3.0, 1.0], [1.0, 3.0]]])  # of two tasks


def _times(v: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"w": (MATRICES @ v["w"].unsqueeze(-1)).squeeze(-1)}


def test_two_unknowns_take_two_steps_in_every_task():
    """A step size shared between tasks would solve neither."""
    found = conjugate_gradient(_times, {"w": torch.tensor([[2.0, 8.0], [4.0, 4.0]])}, 2)

    torch.testing.assert_close(found["w"], torch.ones(2, 2))


def test_a_task_that_is_solved_stays_solved():
    """Further steps divide 0 by 0: one finished task must not become NaN while another goes on."""
    found = conjugate_gradient(_times, {"w": torch.tensor([[0.0, 0.0], [4.0, 4.0]])}, 5)

    torch.testing.assert_close(found["w"], torch.tensor([[0.0, 0.0], [1.0, 1.0]]))


def test_it_stops_where_the_matrix_bends_downwards():
    """There a minimum does not exist, and a step would go to infinity."""
    found = conjugate_gradient(lambda v: {"w": -v["w"]}, {"w": torch.ones(1, 2)}, 5)

    assert found["w"].tolist() == [[0.0, 0.0]]
