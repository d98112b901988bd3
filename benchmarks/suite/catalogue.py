"""The streams of the suite, and which half each is in: written down before anything was tuned on them.

Every family is in both halves. Settings and defaults are chosen on the half "tune" alone; the half "judge" says whether
what was chosen is better. A new stream goes to the half that its family has fewer of.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from benchmarks.peers.files import data_folder
from benchmarks.peers.prequential import read_rows
from benchmarks.suite import bundled, generators
from benchmarks.suite.table import Table, from_scenario
from streammeta.engine import Kind

__all__ = ["STREAMS", "Half", "Stream", "chosen"]

Half = Literal["tune", "judge"]
_LATE = 100  # events after which the labels of late streams come


@dataclass(frozen=True)
class Stream:
    """One stream."""

    name: str
    family: str
    half: Half
    make: Callable[[int, int], Table]  # (events, seed) -> events
    kind: Kind = "classification"
    events: int = 12_000  # of the full run; recorded and bundled ones may have fewer
    delay: int = 0  # events after which a label comes
    recorded: str = ""  # a file of the folder of recorded streams

    @property
    def is_here(self) -> bool:
        """Whether its file is, where it needs one."""
        return not self.recorded or (data_folder() / f"{self.recorded}.csv.gz").exists()


def _recorded(name: str, half: Half, kind: Kind = "classification", delay: int = 0) -> Stream:
    def make(events: int, _: int) -> Table:
        rows = read_rows(data_folder() / f"{name}.csv.gz", events)
        return Table(rows.xs, rows.ys, rows.tasks if any(rows.tasks) else None, rows.names)

    family = "recorded" if kind == "classification" else "recorded values"
    return Stream(name, family, half, make, kind, 10_000, delay, name)


def _bundled(name: str, half: Half, make: Callable[[int], Table], kind: Kind = "classification") -> Stream:
    def first(events: int, seed: int) -> Table:
        t = make(seed)
        return Table(t.xs[:events], t.ys[:events], t.tasks and t.tasks[:events], t.names, t.categories)

    return Stream(name, "bundled" if kind == "classification" else "bundled values", half, first, kind)


def _scenario(name: str, family: str, half: Half, of: str, kind: Kind = "classification", **settings: object) -> Stream:
    """A scenario of ``streammeta simulate`` with a drift at each quarter, or as ``settings`` say."""

    def make(events: int, seed: int) -> Table:
        drifts = {"concept_events": max(events // 4, 1), "schedule": "fixed"} | settings
        return from_scenario(of, events, seed, **drifts)

    return Stream(name, family, half, make, kind)


def _generated(
    name: str, family: str, half: Half, of: Callable[..., Table], kind: Kind = "classification", **settings: object
) -> Stream:
    return Stream(name, family, half, lambda events, seed: of(events, seed, **settings), kind)


def _hard_tree(events: int, seed: int) -> Table:
    return generators.tree(events, seed, features=6, classes=4, depth=4, drift="none")


def _with_delay(stream: Stream) -> Stream:
    return Stream(stream.name, stream.family, stream.half, stream.make, stream.kind, stream.events, _LATE)


_tree, _board, _clusters = generators.tree, generators.board, generators.clusters
_ALL = (
    _recorded("elec2", "tune"),
    _recorded("outdoor", "judge"),
    _recorded("gas_drift", "tune"),
    _recorded("wisdm_mixed", "judge"),
    _recorded("wisdm_users", "tune"),
    _recorded("movielens_users", "judge"),
    _recorded("school", "tune", "regression"),
    _recorded("beijing_air", "judge", "regression", delay=48),
    _bundled("phishing", "tune", lambda _: bundled.river("phishing")),
    _bundled("bananas", "judge", lambda _: bundled.river("bananas")),
    _bundled("image_segments", "tune", lambda _: bundled.river("image_segments")),
    _bundled("digits", "judge", lambda seed: bundled.scikit("digits", seed)),
    _bundled("segments_swapped", "tune", lambda seed: bundled.swapped(bundled.river("image_segments"), seed)),
    _bundled("bananas_swapped", "judge", lambda seed: bundled.swapped(bundled.river("bananas"), seed)),
    _bundled("cancer", "tune", lambda seed: bundled.scikit("breast_cancer", seed)),
    _bundled("digits_permuted", "judge", lambda seed: bundled.permuted(bundled.scikit("digits", seed), seed)),
    _bundled("trump", "tune", lambda _: bundled.river("trump"), "regression"),
    _bundled("chicks", "judge", lambda _: bundled.river("chicks"), "regression"),
    _bundled("water", "tune", lambda _: bundled.river("water"), "regression"),
    _bundled("passengers", "judge", lambda _: bundled.river("passengers"), "regression"),
    _generated("tree_abrupt", "trees", "tune", _tree, features=2, classes=2, depth=6, drift="abrupt"),
    _generated("tree_gradual", "trees", "judge", _tree, features=5, classes=3, depth=7, drift="gradual"),
    _generated("tree_recurring", "trees", "tune", _tree, features=8, classes=4, depth=5, drift="recurring"),
    _generated("tree_tasks", "trees", "judge", _tree, features=4, classes=2, depth=6, drift="abrupt", tasks=20),
    _generated("board_still", "boards", "tune", _board, side=8, classes=4, stretches=1),
    _generated("board_changing", "boards", "judge", _board, side=8, classes=4, stretches=3),
    _generated("board_tasks", "boards", "tune", _board, side=6, classes=3, stretches=2, tasks=10),
    _generated("board_fine", "boards", "judge", _board, side=12, classes=2, stretches=2),
    _generated("clusters_moving", "clusters", "tune", _clusters, count=30, classes=5, features=4, moving=0.8, swaps=0),
    _generated(
        "clusters_swapping", "clusters", "judge", _clusters, count=15, classes=15, features=2, moving=0, swaps=5
    ),
    _scenario("rbf", "clusters", "tune", "random-rbf", concepts=None),
    _scenario("rbf_recurring", "clusters", "judge", "random-rbf", concepts=2),
    _scenario("agrawal", "rules", "tune", "agrawal", concepts=None),
    _scenario("stagger", "rules", "judge", "stagger"),
    _scenario("mixed", "rules", "tune", "mixed"),
    _scenario("agrawal_gradual", "rules", "judge", "agrawal", concepts=3, drift="gradual", drift_width=1000),
    _scenario("sea", "planes", "tune", "sea"),
    _scenario("hyperplane", "planes", "judge", "hyperplane"),
    _scenario("hyperplane_abrupt", "planes", "tune", "hyperplane", drift="abrupt", concepts=3),
    _scenario("sea_gradual", "planes", "judge", "sea", drift="gradual", drift_width=1000),
    _generated("sine", "waves", "tune", generators.sine),
    _generated("waveform", "waves", "judge", generators.waveform),
    _scenario("led", "waves", "tune", "led"),
    _scenario("led_gradual", "waves", "judge", "led", drift="gradual", drift_width=1000),
    _generated("walk_slow", "walks", "tune", generators.periodic, classes=6, period=12),
    _generated("walk_fast", "walks", "judge", generators.periodic, classes=10, period=3),
    _scenario("friedman", "values", "tune", "friedman", "regression"),
    _generated("planes", "values", "judge", generators.planes, "regression"),
    _generated("piecewise", "values", "tune", generators.piecewise, "regression"),
    _generated("oscillating", "values", "judge", generators.oscillating, "regression"),
    _scenario("shared_features", "tasks", "tune", "shared-representation", tasks=60, concept_events=100),
    _generated("task_clusters", "tasks", "judge", generators.task_clusters),
    _generated("scaled_tasks", "tasks", "tune", generators.scaled_tasks, says="classes"),
    _scenario(
        "units", "tasks", "tune", "shared-representation", tasks=60, concept_events=100, scale_spread=1, offset_spread=3
    ),
    _scenario("level", "tasks", "judge", "level", tasks=60),
    _scenario("recurring_tasks", "tasks", "judge", "recurring-concepts", tasks=40, concept_events=100),
    _scenario("sinusoids", "tasks, values", "tune", "switching-sinusoids", "regression", tasks=40, concept_events=100),
    _generated("scaled_values", "tasks, values", "judge", generators.scaled_tasks, "regression", says="values"),
    _generated("rare", "hard", "tune", generators.rare),
    _generated("noisy", "hard", "judge", _tree, features=5, classes=2, depth=4, drift="abrupt", noise=0.4),
    _generated("missing", "hard", "tune", lambda n, seed: generators.missing(_hard_tree(n, seed), seed, 0.2)),
    _with_delay(_generated("late_labels", "hard", "judge", _tree, features=4, classes=3, depth=5, drift="abrupt")),
    _generated("wide", "hard", "tune", generators.wide),
    _generated("categories", "hard", "judge", generators.categories),
    _generated("late_columns", "hard", "tune", lambda n, seed: generators.late_columns(_hard_tree(n, seed), n)),
    _with_delay(_scenario("late_sea", "hard", "judge", "sea")),
)
STREAMS: Mapping[str, Stream] = {stream.name: stream for stream in _ALL}


def chosen(names: list[str]) -> list[Stream]:
    """Streams by name, family or half; raises SystemExit, with what there is, for anything else."""
    found: dict[str, Stream] = {}
    for name in names:
        alike = [s for s in STREAMS.values() if name in ("all", s.name, s.family, s.half)]
        if not alike:
            families = sorted({stream.family for stream in STREAMS.values()})
            raise SystemExit(
                f"--only: no stream, family or half called {name!r}; streams are {', '.join(STREAMS)}; families are "
                f"{', '.join(families)}; halves are tune, judge"
            )
        found |= {stream.name: stream for stream in alike}
    return [found[name] for name in STREAMS if name in found]
