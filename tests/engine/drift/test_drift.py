"""streammeta.engine.drift and streammeta.engine.drift.detector_state: one drift detector a task, by name, and its saved state."""

import inspect
import math
import random
from collections import deque
from itertools import pairwise
from typing import get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river._river_rust.drift import AdaptiveWindowing

from streammeta.engine.drift import DetectorName, Detectors, DriftSettings
from streammeta.engine.drift import detectors as drift
from streammeta.engine.drift.adwin import AdwinTable
from streammeta.engine.drift.settings import PARAMETERS
from streammeta.errors import ConfigError, SnapshotError

NAMES = [name for name in get_args(DetectorName) if name != "none"]
INERT = {"_drift_detected", "_warning_detected", "_test_drift", "p_value"}  # no update reads them between events


def fed(detectors, errors, *, row=0):
    """Where drifts are signalled on a calibrated prediction that is wrong where told so: losses of 0.8 and of 0.2."""
    losses = {True: -math.log(0.2), False: -math.log(0.8)}
    return [i for i, wrong in enumerate(errors) if detectors.update(row, losses[bool(wrong)], float(wrong))]


def errors_at(*phases, seed=3):
    """A stream of errors: phases of (how many, how often)."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.random(count) < rate for count, rate in phases]).tolist()


def picture(thing):
    """All that an object remembers, made comparable."""
    if hasattr(thing, "__getstate__") and isinstance(state := thing.__getstate__(), bytes):
        return state  # River's compiled parts
    if isinstance(thing, random.Random):
        return thing.getstate()
    if isinstance(thing, np.ndarray):
        return thing.tolist()
    if isinstance(thing, deque):
        return (thing.maxlen, list(thing))
    names = getattr(type(thing), "__slots__", None) or getattr(thing, "__dict__", None)
    if names:
        return {name: picture(getattr(thing, name)) for name in names if name not in INERT}
    return thing


@pytest.mark.parametrize("name", NAMES)
def test_a_clear_rise_of_the_error_is_signalled_soon_and_once(name):
    """Without it a detector could be wired to the wrong number, or be so slow that the task has long recovered."""
    signals = fed(Detectors(DriftSettings(detector=name)), errors_at((400, 0.15), (50, 0.85)))

    assert len([at for at in signals if at >= 400]) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_steady_stream_is_left_in_peace(name):
    """False drifts throw away what a task has learned."""
    counts = [len(fed(Detectors(DriftSettings(detector=name)), errors_at((2000, 0.2), seed=seed))) for seed in range(3)]

    assert sum(counts) <= 3 * 6, counts


@pytest.mark.parametrize("name", NAMES)
def test_a_falling_error_is_not_a_drift(name):
    """Every task's error falls while it is learned; ADWIN and KSWIN as River has them fire then."""
    signals = fed(Detectors(DriftSettings(detector=name)), errors_at((100, 0.9), (200, 0.1)))

    assert not [at for at in signals if at >= 100]


def test_a_rise_soon_after_a_fall_is_found():
    """ADWIN as River has it forgets everything at a fall; the newer part of its window is the baseline we need."""
    detectors = Detectors(DriftSettings(warm_up_labels=0))

    signals = fed(detectors, errors_at((40, 1.0), (10, 0.0), (12, 1.0)))

    assert len(signals) == 1
    assert signals[0] >= 50


ADWIN_PARAMETERS = st.fixed_dictionaries(
    {
        "delta": st.floats(1e-9, 10),
        "clock": st.integers(1, 5),
        "max_buckets": st.integers(2, 6),
        "min_window_length": st.integers(1, 5),
        "grace_period": st.integers(1, 12),
    }
)


def rivers_adwin(parameters, values):
    """Where the mean rises, by River's own compiled window, which begins again then; and its sums at the end."""
    names = ("delta", "clock", "max_buckets", "min_window_length", "grace_period")
    given = [parameters[name] for name in names]
    window, rises = AdaptiveWindowing(*given), []
    for at, value in enumerate(values):
        before = (window.get_total() + value) / (window.get_width() + 1)
        if window.update(value) and window.get_total() / window.get_width() > before:
            rises.append(at)
            window = AdaptiveWindowing(*given)
    return rises, (window.get_total(), window.get_variance(), window.get_width())


@settings(max_examples=200, deadline=None)
@given(
    parameters=ADWIN_PARAMETERS,
    phases=st.lists(st.tuples(st.integers(1, 250), st.floats(0, 1)), min_size=1, max_size=5),
    seed=st.integers(0, 10_000),
    exact=st.booleans(),
)
def test_our_adwin_is_rivers_but_for_what_it_keeps_after_a_cut(parameters, phases, seed, exact):
    """The compiled windows are River's, value by value: the same cuts, the same sums to the bit."""
    rng = np.random.default_rng(seed)
    means = np.concatenate([np.full(count, mean) for count, mean in phases])
    drawn = rng.random(means.size)
    values = ((drawn < means) if exact else (0.5 * means + 0.5 * drawn)).astype(float).tolist()
    table = AdwinTable(parameters, warm_up=0)

    rises = [at for at, value in enumerate(values) if table.watch([3], [value]) is not None]

    expected, sums = rivers_adwin(parameters, values)
    assert rises == expected
    if table.state(3) is None:
        assert sums == (0, 0, 0)
        return
    _, state = table.state(3)
    width = sum(len(level.totals) << i for i, level in enumerate(state.rows))
    assert (state.total, state.variance, width) == sums


def test_a_run_of_values_is_watched_up_to_its_first_drift():
    """What comes after it is watched again, by a caller that has predicted it again: it must not have been seen."""
    rows, values = [0, 1] * 64, [float(at >= 70) for at in range(128)]
    together, one_by_one = (Detectors(DriftSettings(warm_up_labels=3)) for _ in range(2))

    at = together.watch_all(rows, values)
    first = next(i for i, (row, value) in enumerate(zip(rows, values, strict=True)) if one_by_one.watch(row, value))

    assert at == first
    assert [together.dump(row) for row in (0, 1)] == [one_by_one.dump(row) for row in (0, 1)]
    assert together.dump(rows[at]) == b""


def test_a_target_s_surprise_has_no_unit():
    """A detector that works for prices in dollars must work for the same prices in cents."""
    rng = np.random.default_rng(1)
    gaps = np.abs(rng.standard_normal(300)) * np.where(np.arange(300) < 200, 1.0, 6.0)

    found = []
    for scale in (1e-6, 1.0, 1e6):
        detectors = Detectors(DriftSettings())
        loss = [0.5 * (g * g + math.log(2 * math.pi * scale**2)) for g in gaps]
        found.append([i for i, g in enumerate(gaps) if detectors.update(0, loss[i], g * scale, scale**2)])

    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 1
    assert 200 <= found[0][0] < 210


@pytest.mark.parametrize("name", NAMES)
def test_targets_far_outside_their_interval_are_signalled_by_every_detector(name):
    """Binary detectors need a bit; for numbers it must come from the prediction's own variance."""
    rng = np.random.default_rng(2)
    detectors = Detectors(DriftSettings(detector=name))
    gaps = np.abs(rng.standard_normal(600)) * np.where(np.arange(600) < 500, 1.0, 8.0)

    signals = [i for i, gap in enumerate(gaps.tolist()) if detectors.update(0, 0.0, gap, 1.0)]

    assert any(at >= 500 for at in signals)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(
    phases=st.lists(st.tuples(st.integers(1, 120), st.floats(0, 1)), min_size=1, max_size=4),
    cut=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_dump_and_load_go_on_exactly_as_if_nothing_had_happened(name, phases, cut, seed):
    """A restart must not change what is signalled, not even by a rounding error."""
    errors = errors_at(*phases, seed=seed)
    at = int(cut * len(errors))
    one, other = (Detectors(DriftSettings(detector=name, warm_up_labels=5)) for _ in range(2))

    fed(one, errors[:at])
    other.load(9, one.dump(0))

    if name != "adwin":  # which is all in its bytes
        mine, its = one._table._rows.get(0), other._table._rows.get(9)
        assert (mine is None) == (its is None)
        assert mine is None or picture(mine.detector) == picture(its.detector)
    assert one.dump(0) == other.dump(9)
    assert fed(one, errors[at:]) == fed(other, errors[at:], row=9)
    assert one.dump(0) == other.dump(9)


@pytest.mark.parametrize("name", NAMES)
def test_every_byte_of_saved_state_can_be_damaged_without_harm(name):
    """Whoever can write to the changelog must not be able to stop the service: River's ADWIN panics on such bytes."""
    source = Detectors(DriftSettings(detector=name, warm_up_labels=0))
    fed(source, errors_at((90, 0.3)))
    data = source.dump(0)
    rng = random.Random(5)
    for _ in range(1500):
        damaged = bytearray(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.2 else data)
        for _ in range(rng.randint(1, 4)):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.choice([0, 1, 127, 128, 192, 255, rng.randrange(256)])
        target = Detectors(DriftSettings(detector=name, warm_up_labels=0))
        try:
            target.load(0, bytes(damaged))
        except SnapshotError:
            assert target.dump(0) == b""
        else:
            fed(target, errors_at((70, 0.5)) if name != "kswin" else errors_at((3, 0.5)))
            target.load(1, target.dump(0))


_NUMBERS = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.integers(-2, 9),
    st.floats(),
    st.floats(0, 1),
    st.none(),
    st.binary(max_size=9),
)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_well_formed_state_with_hostile_numbers_is_refused_or_harmless(name, data):
    """Damage that keeps the form: infinities, counts that contradict each other, bytes instead of numbers."""
    source = Detectors(DriftSettings(detector=name, warm_up_labels=0))
    fed(source, errors_at((data.draw(st.integers(1, 70)), 0.3)))
    saved = msgspec.msgpack.decode(source.dump(0)) if source.dump(0) else [1, 0, 0, None]
    part = saved
    while isinstance(part, list) and part:
        at = data.draw(st.integers(0, len(part) - 1))
        if isinstance(part[at], list) and part[at] and data.draw(st.booleans()):
            part = part[at]
            continue
        if part is not saved or at == 3:
            part[at] = data.draw(_NUMBERS)
        break
    target = Detectors(DriftSettings(detector=name, warm_up_labels=0))
    try:
        target.load(0, msgspec.msgpack.encode(saved))
    except SnapshotError:
        return
    fed(target, errors_at((60, 0.4)) if name != "kswin" else errors_at((3, 0.5)))
    target.load(1, target.dump(0))


@pytest.mark.parametrize("change", ["one too many", "no variances", "an empty row", "a sum too large", "another total"])
def test_buckets_that_adwin_cannot_have_are_refused(change):
    """Each of these makes River's compiled code panic at a later event, or its sums grow without bound."""
    detectors = Detectors(DriftSettings(warm_up_labels=0))
    fed(detectors, errors_at((60, 0.3)))
    saved = msgspec.msgpack.decode(detectors.dump(0))
    total, *_, rows = saved[3]
    if change == "one too many":
        rows[0] = [part + [0.0] * (6 - len(part)) for part in rows[0]]
    elif change == "no variances":
        rows[0][1] = []
    elif change == "an empty row":
        rows[1] = [[], []]
    elif change == "a sum too large":
        rows[0][0][0] += 2.0
        saved[3][0] += 2.0
    else:
        saved[3][0] = total + 1.0

    with pytest.raises(SnapshotError):
        detectors.load(1, msgspec.msgpack.encode(saved))


def test_a_generator_of_zeros_is_refused():
    """Python's `random.sample` can look for a second number in it for ever."""
    detectors = Detectors(DriftSettings(detector="kswin", warm_up_labels=0))
    fed(detectors, errors_at((70, 0.0)))
    saved = msgspec.msgpack.decode(detectors.dump(0))
    saved[3][2][0] = bytes(len(saved[3][2][0]))

    with pytest.raises(SnapshotError, match="only ever give zeros"):
        detectors.load(1, msgspec.msgpack.encode(saved))


@given(st.binary(max_size=200))
def test_bytes_from_elsewhere_are_refused(data):
    """Only `dump` writes what `load` takes; empty bytes are a fresh row."""
    detectors = Detectors(DriftSettings())
    if not data:
        detectors.load(0, data)
        return

    with pytest.raises(SnapshotError, match="drift detector of row 0"):
        detectors.load(0, data)


def test_deeply_nested_bytes_are_refused():
    """A recursion error would be a way to end the process."""
    with pytest.raises(SnapshotError):
        Detectors(DriftSettings()).load(0, b"\x91" * 100_000)


def test_state_of_other_settings_is_refused_with_both_named():
    """Numbers of one detector in another would be nonsense that looks like state."""
    source = Detectors(DriftSettings(detector="ddm", warm_up_labels=0))
    fed(source, [0, 1, 0])

    for other in (DriftSettings(detector="eddm"), DriftSettings(detector="ddm", parameters={"warm_start": 31})):
        with pytest.raises(SnapshotError, match="saved with another detector or other parameters"):
            Detectors(other).load(0, source.dump(0))


@settings(max_examples=60, deadline=None)
@given(
    parameters=ADWIN_PARAMETERS,
    values=st.lists(st.sampled_from([0.0, 0.1, 3.0, 50.0, math.inf]), min_size=50, max_size=400),
)
def test_adwin_stands_every_parameter_that_is_allowed(parameters, values):
    """River does not check them: clock 0 divides by zero, max_buckets 1 reads an emptied row."""
    one = Detectors(DriftSettings(parameters=parameters, warm_up_labels=0))
    for loss in values:
        one.update(0, loss, 0.0)
        other = Detectors(DriftSettings(parameters=parameters, warm_up_labels=0))
        other.load(0, one.dump(0))
        assert other.dump(0) == one.dump(0)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_bear_rivers_names_and_reach_it(name):
    """A renamed parameter of River would otherwise surface at the first event of a running service."""
    kind = drift._KINDS[name]

    assert set(PARAMETERS[name]) | set(kind.fixed) <= set(inspect.signature(kind.make).parameters)
    for parameter, allowed in PARAMETERS[name].items():
        made = Detectors(DriftSettings(detector=name, parameters={parameter: allowed.default}, warm_up_labels=0))
        made.update(0, 0.1, 0.0)
        assert name == "adwin" or getattr(made._table._rows[0].detector, parameter) == allowed.default


@pytest.mark.parametrize(
    ("detector", "parameters", "says"),
    [
        ("adwin", {"treshold": 3}, "adwin has no treshold; wanted any of: delta, clock"),
        ("none", {"delta": 3}, "none has no delta"),
        ("page-hinkley", {"mode": 1}, "has no mode"),
        ("adwin", {"delta": 0}, "drift.parameters.delta: got 0"),
        ("adwin", {"delta": math.nan}, "drift.parameters.delta: got nan"),
        ("adwin", {"clock": 1.5}, "wanted a whole number from 1 to 10000"),
        ("adwin", {"clock": math.inf}, "wanted a whole number"),
        ("kswin", {"window_size": 30}, "at least twice the stat_size"),
    ],
)
def test_a_wrong_parameter_is_refused_at_once_and_the_right_ones_named(detector, parameters, says):
    """Found before the first poll, and not in the first event of the first task."""
    with pytest.raises(ConfigError, match=says):
        DriftSettings(detector=detector, parameters=parameters)


def test_rows_do_not_hear_of_each_other_and_reset_forgets():
    """One task's drift is not another's, and a row that is given to another task must not pass on its past."""
    detectors = Detectors(DriftSettings(warm_up_labels=0))
    fed(detectors, errors_at((50, 0.0)), row=1)

    assert fed(detectors, [1] * 30, row=2) == []
    assert fed(detectors, [1] * 9, row=1) != []

    fed(detectors, errors_at((50, 0.0)), row=1)
    detectors.reset(1)
    assert detectors.dump(1) == b""
    assert fed(detectors, [1] * 30, row=1) == []


def test_drifts_are_further_apart_than_the_settling_time():
    """After a signal the task learns again; its high error then is not another drift."""
    wild = errors_at(*[(15, 0.0), (15, 1.0)] * 20)

    signals = fed(Detectors(DriftSettings(warm_up_labels=25)), wild)

    assert len(signals) > 2
    assert min(b - a for a, b in pairwise(signals)) > 25


def test_what_is_not_a_number_is_not_watched():
    """A NaN in ADWIN's sums would silence it for good."""
    detectors = Detectors(DriftSettings(warm_up_labels=0))
    fed(detectors, errors_at((50, 0.0)))
    before = detectors.dump(0)

    assert not detectors.update(0, math.nan, math.nan)
    assert not detectors.update(0, 0.0, math.nan, 1.0)
    assert not detectors.update(0, 0.0, 1.0, math.nan)

    assert detectors.dump(0) == before


def test_none_watches_nothing():
    """The way to switch detection off."""
    detectors = Detectors(DriftSettings(detector="none"))

    assert fed(detectors, errors_at((100, 0.0), (100, 1.0))) == []
    assert detectors.dump(0) == b""
