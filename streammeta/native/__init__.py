"""The compiled kernels: loops over arrays in C++, built once for all processors of a kind.

A kernel is one ``.cpp`` file here. Its ``bind_NAME`` adds functions to the module ``_kernels``, ``module.cpp`` lists
the names, and ``_kernels.pyi`` has the types. Python calls them from the module whose equations they compute. Arrays
are changed in place and never copied: another type, dimension or layout is a TypeError.

There is one set of bits: products are fused where the source says so (``fused``), nothing is reordered, exp, log and
tanh are our own, and nothing is chosen by the processor at hand. What the build needs of it is checked here.
"""

from collections.abc import Sequence

__all__ = ["require_processor"]


def require_processor(missing: Sequence[str]) -> None:
    """Refuse to go on where the kernels would stop the process with an illegal instruction.

    Args:
        missing: names of instruction sets that this processor lacks.

    Raises:
        ImportError: there are any.
    """
    if missing:
        raise ImportError(
            f"streammeta: this processor has no {', '.join(missing)}; the compiled kernels want an x86-64 processor "
            "with AVX2 and FMA (x86-64-v3: Intel since 2013, AMD since 2015), or a 64-bit ARM; use another machine"
        )


try:
    from streammeta.native import _processor
except ImportError as err:
    raise ImportError(
        "streammeta: the compiled kernels are not here; in a clone, run `make setup`, elsewhere install the wheel"
    ) from err

require_processor(_processor.missing())
