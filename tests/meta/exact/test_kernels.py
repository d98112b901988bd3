"""What all compiled rooms of the default learner have in common."""

from importlib import import_module

import pytest
from numba.core.dispatcher import Dispatcher

ROOMS = ("encoder_kernel", "event_kernel", "gradient_kernel", "lanes_kernel", "mixture_kernel")


@pytest.mark.parametrize("room", ROOMS)
def test_what_may_be_rounded_freely_is_inlined(room: str) -> None:
    """Else a process that compiles kernels and one that finds them compiled differ in the last bits of θ."""
    module = import_module(f"streammeta.meta.exact.{room}")
    kernels = [one for one in vars(module).values() if isinstance(one, Dispatcher)]

    assert kernels
    for kernel in kernels:
        options = kernel.targetoptions
        assert not options.get("fastmath") or options.get("forceinline"), kernel
