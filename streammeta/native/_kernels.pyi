"""What the compiled module offers. Arrays are in C order; those that are written are changed in place."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

_Floats: TypeAlias = npt.NDArray[np.float32]
_Doubles: TypeAlias = npt.NDArray[np.float64]
_Real: TypeAlias = npt.NDArray[np.floating]
_Ints: TypeAlias = npt.NDArray[np.int64]
_Bytes: TypeAlias = npt.NDArray[np.uint8]

def push(
    window_x: _Floats,
    window_low: _Floats,
    window_y: _Floats | _Doubles,
    pushed: _Ints,
    rows: _Ints,
    xs: _Floats,
    low: _Floats,
    ys: _Doubles,
    /,
) -> None: ...
def target_range(window_y: _Doubles, pushed: _Ints, rows: _Ints, least: _Doubles, greatest: _Doubles, /) -> None: ...
def refresh(
    rows: _Ints,
    begin: int,
    rest: _Ints,
    version: _Ints,
    pushed: _Ints,
    size: int,
    share: int,
    now: int,
    stale: _Ints,
    /,
) -> tuple[int, int]: ...
def observe_moments(moments: _Doubles, xs: _Real, outlier: float, memory: float, /) -> None: ...
def update_changepoint(runs: _Doubles, dispersion: _Doubles, x: float, hazard: float, /) -> float: ...
def exp_in_place(numbers: _Real, /) -> None: ...
def log_in_place(numbers: _Real, /) -> None: ...
def tanh_in_place(numbers: _Real, /) -> None: ...
def run_classes(
    weights: tuple[_Floats, ...],
    A: _Floats,
    B: _Floats,
    logw: _Floats,
    rows: _Ints,
    xs: _Floats,
    ys: _Floats,
    forget: _Bytes,
    mean: _Floats,
    /,
) -> None: ...
def run_values(
    weights: tuple[_Floats, ...],
    A: _Floats,
    B: _Floats,
    logw: _Floats,
    noise: _Floats,
    rows: _Ints,
    xs: _Floats,
    ys: _Floats,
    forget: _Bytes,
    mean: _Floats,
    variance: _Floats,
    /,
) -> None: ...
def score_values(
    weights: tuple[_Floats, ...],
    A: _Floats,
    B: _Floats,
    logw: _Floats,
    noise: _Floats,
    rows: _Ints,
    starts: _Ints,
    columns: _Ints,
    values: _Floats,
    mean: _Floats,
    doubt: _Floats,
    /,
) -> None: ...
def remember(
    window_x: _Floats,
    window_y: _Floats,
    pushed: _Ints,
    since: _Ints,
    rows: _Ints,
    of: _Ints,
    xs: _Floats,
    ys: _Floats,
    forget: _Bytes,
    /,
) -> None: ...
def class_segments_loss(
    theta: tuple[_Real, ...],
    x: _Real,
    y: _Ints,
    valid: _Real,
    share: _Real,
    chunk: int,
    slopes: tuple[_Real, ...],
    /,
) -> float: ...
def value_segments_loss(
    theta: tuple[_Real, ...],
    x: _Real,
    y: _Real,
    valid: _Real,
    share: _Real,
    chunk: int,
    slopes: tuple[_Real, ...],
    /,
) -> float: ...
def ask_gaussian(
    count: _Doubles,
    mean: _Doubles,
    square: _Doubles,
    x: _Floats,
    within: _Doubles,
    shift: _Floats,
    gain: _Floats,
    said: _Doubles,
    /,
) -> None: ...
def add_to_class(
    count: _Doubles, mean: _Doubles, square: _Doubles, label: int, x: _Floats, squares: _Doubles, /
) -> None: ...
def ask_neighbours(
    window_x: _Floats,
    window_y: _Real,
    pushed: _Ints,
    row: int,
    x: _Floats,
    shift: _Floats,
    gain: _Floats,
    most: int,
    classify: bool,
    said: _Doubles,
    /,
) -> None: ...
def mix_classes(
    p: _Doubles,
    said: _Doubles,
    doubt: _Doubles,
    evidence: _Doubles,
    pooled: float,
    pool: _Doubles,
    stream: _Doubles,
    log_favour: float,
    parts: _Doubles,
    mixed: _Doubles,
    /,
) -> None: ...
def add_class_evidence(
    parts: _Doubles,
    classes: int,
    label: int,
    evidence: _Doubles,
    pooled: _Doubles,
    pool: _Doubles,
    stream: _Doubles,
    decay: float,
    /,
) -> None: ...
def mix_values(
    mean: float,
    variance: float,
    said: _Doubles,
    noise: _Doubles,
    evidence: _Doubles,
    stream: _Doubles,
    log_favour: float,
    parts: _Doubles,
    mixed: _Doubles,
    /,
) -> None: ...
def add_value_evidence(
    parts: _Doubles,
    y: float,
    evidence: _Doubles,
    stream: _Doubles,
    decay: float,
    noise: _Doubles,
    noise_decay: float,
    /,
) -> None: ...
def common_observe(exact: _Doubles, slots: _Ints, moments: _Doubles, /) -> None: ...
def common_score(
    exact: _Doubles,
    slots: _Ints,
    scale: _Doubles,
    model: _Doubles,
    means: _Doubles,
    variances: _Doubles,
    /,
) -> None: ...
def common_learn(
    xs: _Doubles,
    actions: _Ints,
    rewards: _Doubles,
    scale: _Doubles,
    model: _Doubles,
    errors: _Doubles,
    /,
) -> None: ...
def linear(x: _Floats, w: _Floats, b: _Floats, out: _Floats, /) -> None: ...
def linear_run(
    state: _Doubles,
    of_tasks: _Floats,
    of_values: _Floats,
    rows: _Ints,
    values: _Ints,
    xs: _Floats,
    labels: _Doubles,
    asked: npt.NDArray[np.bool_],
    classify: bool,
    said: _Doubles,
    /,
) -> int: ...
def follow_labels(
    moves: _Doubles,
    runs: _Doubles,
    rate: _Doubles,
    heat: _Doubles,
    places: _Ints,
    rule: _Doubles,
    last: _Ints,
    length: _Ints,
    rows: _Ints,
    labels: _Doubles,
    asked: npt.NDArray[np.bool_],
    origin: _Ints,
    context: _Ints,
    said: _Doubles,
    /,
) -> None: ...
def ask_nearest(
    z: _Floats,
    y: _Floats,
    known: _Ints,
    count: int,
    pairs: _Doubles,
    lengths: _Doubles,
    xs: _Floats,
    shift: _Doubles,
    gain: _Doubles,
    labels: _Doubles,
    asked: npt.NDArray[np.bool_],
    classify: bool,
    said: _Doubles,
    /,
) -> int: ...
def remember_nearest(
    x: _Floats, labels: _Floats, count: int, shift: _Doubles, gain: _Doubles, z: _Floats, y: _Floats, known: _Ints, /
) -> None: ...

class GaussianProcess:
    def __init__(self, classify: bool, /) -> None: ...
    @property
    def count(self) -> int: ...
    def remember(self, x: _Floats, labels: _Floats, count: int, /) -> None: ...
    def run(
        self, tasks: _Floats, xs: _Floats, labels: _Doubles, asked: npt.NDArray[np.bool_], said: _Doubles, /
    ) -> None: ...

def follow_targets(
    nearer: _Doubles,
    rule: _Doubles,
    tasks: _Doubles,
    rows: _Ints,
    labels: _Doubles,
    asked: npt.NDArray[np.bool_],
    said: _Doubles,
    /,
) -> None: ...
def number_tags(tags: list[str], out: _Floats, /) -> None: ...
def forest_run(
    state: tuple[npt.NDArray[np.generic], ...],
    xs: _Floats,
    ys: _Floats,
    rule: Sequence[float],
    classify: bool,
    seed: int,
    learned: int,
    until: int,
    tasks: _Floats,
    x: _Floats,
    labels: _Doubles,
    asked: npt.NDArray[np.bool_],
    said: _Doubles,
    /,
) -> tuple[int, int]: ...
def mix_class_run(
    p: _Doubles,
    said: _Doubles,
    doubt: _Doubles,
    evidence: _Doubles,
    pooled: _Doubles,
    pools: _Doubles,
    streams: _Doubles,
    rows: _Ints,
    place: _Ints,
    labels: _Doubles,
    given: npt.NDArray[np.bool_],
    known: _Ints,
    log_favour: float,
    decay: float,
    parts: _Doubles,
    mixed: _Doubles,
    /,
) -> None: ...
def mix_value_run(
    means: _Doubles,
    variances: _Doubles,
    said: _Doubles,
    noise: _Doubles,
    evidence: _Doubles,
    streams: _Doubles,
    rows: _Ints,
    place: _Ints,
    labels: _Doubles,
    given: npt.NDArray[np.bool_],
    log_favour: float,
    decay: float,
    noise_decay: float,
    parts: _Doubles,
    mixed: _Doubles,
    /,
) -> None: ...
def look(
    windows: tuple[npt.NDArray[Any], ...],
    scales: tuple[npt.NDArray[Any], ...],
    row: int,
    shared: tuple[npt.NDArray[Any], ...],
    own: _Ints,
    epoch: int,
    classify: bool,
    last: _Doubles,
    crowd: _Doubles,
    target_crowd: _Doubles,
    /,
) -> tuple[bool, float, bool, list[int]]: ...
def find_strays(
    xs: _Floats, ys: _Floats, known: npt.NDArray[np.bool_], own: _Ints, with_target: bool, strays: _Ints, /
) -> None: ...
def until_look(
    labelled: _Ints,
    next: _Ints,
    strays: _Ints,
    rows: _Ints,
    labels: _Doubles,
    found: _Ints,
    most: int,
    at_once: bool,
    /,
) -> int: ...
def due_for_look(
    labelled: _Ints, next: _Ints, strays: _Ints, rows: _Ints, labels: _Doubles, found: _Ints, /
) -> list[int]: ...
def watched_class(loss: float, error: float, binary: bool, /) -> float: ...
def watched_value(error: float, variance: float, binary: bool, /) -> float: ...
def judge_classes(
    mean: _Doubles,
    known: _Ints,
    labels: _Doubles,
    binary: bool,
    best: _Ints,
    loss: _Doubles,
    error: _Doubles,
    watched: _Doubles,
    /,
) -> None: ...
def judge_values(
    mean: _Doubles,
    variance: _Doubles,
    unit: _Doubles,
    labels: _Doubles,
    binary: bool,
    loss: _Doubles,
    error: _Doubles,
    watched: _Doubles,
    /,
) -> None: ...
def run_intervals(
    mean: _Doubles,
    variance: _Doubles,
    labels: _Doubles,
    rows: _Ints,
    places: _Ints,
    rule: _Doubles,
    of_tasks: _Doubles,
    of_partitions: _Doubles,
    bounds: _Doubles,
    /,
) -> None: ...
def count_events(
    columns: tuple[npt.NDArray[Any], ...],
    rows: _Ints,
    is_event: npt.NDArray[np.bool_],
    times: _Doubles,
    errors: _Doubles,
    memory: float,
    age: _Ints,
    since: _Ints,
    /,
) -> None: ...
def see_events(
    high: _Floats,
    low: _Floats,
    scales: _Doubles,
    rows: _Ints,
    shift: _Doubles,
    gain: _Doubles,
    own: _Ints,
    beside: bool,
    out: _Floats,
    /,
) -> None: ...
def see_choices(
    exact: _Doubles,
    crossed: _Ints,
    named: _Ints,
    rows: _Ints,
    scales: _Doubles,
    shift: _Doubles,
    gain: _Doubles,
    own: _Ints,
    beside: bool,
    starts: _Ints,
    columns: _Ints,
    values: _Floats,
    /,
) -> int: ...
def see_windows(
    window_x: _Floats,
    low: _Floats,
    count: _Ints,
    scales: _Doubles,
    rows: _Ints,
    shift: _Doubles,
    gain: _Doubles,
    own: _Ints,
    beside: bool,
    out: _Floats,
    /,
) -> None: ...
def see_targets(
    ys: _Doubles, scales: _Doubles, rows: _Ints, shift: float, spread: float, most: float, out: _Floats, /
) -> None: ...
def see_target_windows(
    window_y: _Doubles,
    count: _Ints,
    scales: _Doubles,
    rows: _Ints,
    shift: float,
    spread: float,
    most: float,
    out: _Floats,
    /,
) -> None: ...
def admit(
    events: Sequence[object],
    begin: int,
    end: int,
    kind: type,
    features: tuple[tuple[str, ...], _Ints, dict[tuple[str, str | None], int], bool, float],
    labels: tuple[dict[Any, int] | None, list[Any], float],
    rows: Mapping[tuple[int, str], int],
    partition: int,
    before: float,
    into: tuple[
        _Ints,
        _Ints,
        _Doubles,
        _Doubles,
        _Doubles,
        npt.NDArray[np.bool_],
        npt.NDArray[np.bool_],
        list[int],
        list[Any],
        list[str],
    ],
    keys: list[tuple[int, str]],
    /,
) -> None: ...
def gather(
    events: Sequence[object],
    begin: int,
    end: int,
    kinds: tuple[type, type],
    features: tuple[tuple[str, ...], _Ints, dict[tuple[str, str | None], int], bool, float],
    labels: tuple[dict[Any, int] | None, list[Any], float],
    known: tuple[
        Mapping[tuple[int, str], int],
        Mapping[tuple[int, str], list[str]],
        dict[str, tuple[tuple[int, str], ...]],
        Callable[[str], tuple[tuple[int, str], ...]],
        dict[str, str],
        npt.NDArray[np.bool_],
        int,
        bool,
        bool,
        bool,
    ],
    partition: int,
    before: float,
    into: tuple[npt.NDArray[np.bool_], _Ints, _Ints, _Doubles, _Doubles, _Doubles, list[Any], list[Any]],
    /,
) -> int: ...
def fill_rows(rows: _Doubles, places: list[int], waits: Mapping[int, Any], /) -> None: ...
def write_decisions(
    kind: type,
    sources: list[Any],
    places: _Ints,
    names: tuple[str, ...],
    actions: list[str | None],
    choice: _Ints,
    taken: _Ints,
    propensities: _Doubles,
    scores: _Doubles,
    rewards: _Doubles,
    is_known: npt.NDArray[np.bool_],
    signals: tuple[Any, Any],
    into: list[Any],
    /,
) -> None: ...
def see(
    tasks: dict[str, tuple[int, float, float]],
    keys: list[tuple[int, str]],
    times: _Doubles,
    number: int,
    time: float,
    ts: float,
    /,
) -> tuple[int, float, float]: ...
def write_outcomes(
    kind: type,
    sources: list[Any],
    places: list[int],
    first: int,
    classify: bool,
    classes: list[Any],
    judged: tuple[_Doubles, _Ints, _Ints, _Doubles, _Doubles, _Doubles, _Ints, _Ints, _Ints, npt.NDArray[np.bool_]],
    signals: list[Any],
    bounds: _Doubles,
    into: list[Any],
    /,
) -> None: ...

class Adwins:
    def __init__(
        self, warm_up: int, delta: float, clock: int, max_buckets: int, min_window_length: int, grace_period: int, /
    ) -> None: ...
    def watch(self, rows: _Ints, values: _Doubles, /) -> int: ...
    def reset(self, row: int, /) -> None: ...
    def state(
        self, row: int, /
    ) -> (
        tuple[int, tuple[float, float, float], tuple[int, int, int, int], list[tuple[list[float], list[float]]]] | None
    ): ...
    def load(
        self,
        row: int,
        passed: int,
        sums: tuple[float, float, float],
        counts: tuple[int, int, int, int],
        levels: list[tuple[list[float], list[float]]],
        /,
    ) -> None: ...

class Recent:
    def __init__(self, size: int, /) -> None: ...
    def add(self, rows: _Ints, /) -> None: ...
    def drop(self, row: int, /) -> None: ...
    def sweep(self) -> None: ...
    def entries(self) -> int: ...
    def alive(self) -> int: ...
    def copy_entries(self, out: _Ints, /) -> None: ...
    def copy_alive(self, out: _Ints, /) -> None: ...
    def load(self, entries: _Ints, alive: _Ints, /) -> None: ...
