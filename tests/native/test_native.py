"""What all compiled kernels have in common: their types, their elementary functions, and what they ask of a machine."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import streammeta.native
from streammeta.native import _kernels as kernels
from streammeta.native import _processor, require_processor

_STUB = Path(inspect.getfile(streammeta.native)).parent / "_kernels.pyi"
_EXACT = {"exp_in_place": np.exp, "log_in_place": np.log, "tanh_in_place": np.tanh}


@pytest.mark.parametrize("name", _EXACT)
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_elementary_functions_are_those_of_the_textbook(name: str, real: type[np.floating]) -> None:
    """They stand in for the C library's and numpy's, whose bits differ by processor; a wrong coefficient is a wrong θ."""
    numbers = np.concatenate([np.linspace(-80, 80, 10_007), np.geomspace(1e-30, 1e30, 10_007)]).astype(real)
    if name == "exp_in_place":
        numbers = np.linspace(-87, 88, 100_003).astype(real)
    elif name == "log_in_place":
        numbers = np.abs(numbers) + np.finfo(real).tiny
    exact = _EXACT[name](numbers.astype(np.longdouble))

    getattr(kernels, name)(numbers)

    if name == "tanh_in_place":
        np.testing.assert_allclose(
            numbers, exact.astype(np.float64), atol=4e-7 if real is np.float32 else 4e-16, rtol=0
        )
    else:
        np.testing.assert_allclose(numbers, exact.astype(np.float64), rtol=2.5 * np.finfo(real).eps, atol=0)


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_what_is_no_number_stays_visible(real: type[np.floating]) -> None:
    """A NaN that became a number would be a prediction; an overflow is infinite, not a large finite one."""
    edge = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 1e30], real)
    by_exp, by_log, by_tanh = edge.copy(), edge.copy(), edge.copy()

    kernels.exp_in_place(by_exp)
    kernels.log_in_place(by_log)
    kernels.tanh_in_place(by_tanh)

    np.testing.assert_array_equal(by_exp[[0, 1, 2, 3, 4, 6]], [np.nan, np.inf, 0, 1, 1, np.inf])
    np.testing.assert_array_equal(by_log[:6], np.array([np.nan, np.inf, np.nan, -np.inf, -np.inf, np.nan], real))
    assert np.isnan(by_tanh[0])
    np.testing.assert_allclose(by_tanh[1:6], [1, -1, 0, 0, np.tanh(-1)], atol=4e-7)


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_a_number_has_the_same_bits_wherever_it_stands(real: type[np.floating]) -> None:
    """Sixteen numbers go through registers and the rest of an array one by one: a prediction must not depend on it."""
    numbers = np.random.default_rng(1).normal(0, 5, 16 * 5 + 7).astype(real)
    for name in _EXACT:
        together = np.abs(numbers) if name == "log_in_place" else numbers.copy()
        alone = together.copy()
        getattr(kernels, name)(together)
        for i in range(alone.size):
            getattr(kernels, name)(alone[i : i + 1])
        np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((3, 2)), np.zeros((3, 4), np.float32), np.zeros((3, 2), np.float32), np.zeros((3, 4)).T, [[0.0] * 2] * 3],
    ids=["columns", "float32", "both", "transposed", "list"],
)
def test_an_array_of_another_kind_is_refused_and_none_is_copied(wrong: object) -> None:
    """A copy would be changed in place of the caller's array: what was learned would be gone without a word."""
    with pytest.raises((TypeError, ValueError)):
        kernels.observe_moments(wrong, np.ones((5, 4), np.float32), 10.0, 100.0)  # type: ignore[arg-type]


def test_a_read_only_array_is_not_written() -> None:
    """Memory-mapped and shared arrays are read-only; to write them would stop the process."""
    moments = np.zeros((3, 1))
    moments.flags.writeable = False

    with pytest.raises(TypeError):
        kernels.observe_moments(moments, np.ones((5, 1), np.float32), 10.0, 100.0)

    assert not moments.any()


def test_a_row_that_is_not_there_is_refused() -> None:
    """Compiled loops look at no bounds of their own: a wrong row would write into another task's memory."""
    window = np.zeros((2, 4, 3), np.float32), np.zeros((2, 4, 0), np.float32), np.zeros((2, 4), np.float32)
    count = np.zeros(2, np.int64)

    with pytest.raises(ValueError, match="row that is not there"):
        kernels.push(
            *window, count, np.array([2]), np.ones((1, 3), np.float32), np.ones((1, 0), np.float32), np.ones(1)
        )

    assert not any(part.any() for part in window)


def test_the_types_are_those_of_the_module() -> None:
    """mypy believes the stub: a function that is not there, or wants other arguments, would fail where it is called."""
    described: dict[str, int] = {}
    for node in ast.parse(_STUB.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            described[node.name] = len(node.args.posonlyargs)
        elif isinstance(node, ast.ClassDef):
            methods = [one for one in node.body if isinstance(one, ast.FunctionDef)]
            described |= {
                f"{node.name}.{one.name}": len([*one.args.posonlyargs, *one.args.args]) - 1 for one in methods
            }
    there = dict[str, object]()
    for name, found in vars(kernels).items():
        if isinstance(found, type):
            own = {method: one for method, one in vars(found).items() if method == "__init__" or method[0] != "_"}
            there |= {f"{name}.{method}": one for method, one in own.items()}
        elif not name.startswith("_"):
            there[name] = found

    assert sorted(described) == sorted(there)
    for name, count in described.items():
        signature = (there[name].__doc__ or "").splitlines()[0]
        assert signature.count(" arg") + signature.count("(arg") == count, signature


def test_a_processor_that_lacks_something_is_named_before_it_fails() -> None:
    """Else the process ends with "illegal instruction", and nobody knows why."""
    with pytest.raises(ImportError, match=r"no avx2, fma; .* AVX2 and FMA"):
        require_processor(["avx2", "fma"])

    assert _processor.missing() == []


def test_an_engine_that_lives_until_its_process_ends_is_no_leak() -> None:
    """A service freezes what it holds for the garbage collector, and its last words were forty lines of leaks."""
    script = (
        "import gc\n"
        "from streammeta.engine import Engine, EngineSettings\n"
        "held = {'engine': Engine(EngineSettings())}\n"
        "held['held'] = held\n"
        "gc.freeze()\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)

    assert found.stderr == ""
