"""Options that fit every scenario: clusters, imbalance, missing features, labels that come late or never."""

import itertools
from collections import defaultdict

import numpy as np
import pytest

from streammeta.errors import ConfigError
from streammeta.event import Decoder, Event, Label, Origin, Record
from streammeta.simulators import SCENARIOS, LateLabel, Sample, hidden_features, simulate, stream, with_late_labels

EVERYTHING = {
    "tasks": 6,
    "start_tasks": 2,
    "new_task_every": 30,
    "popularity": 0.5,
    "clusters": 2,
    "concept_events": 40,
    "missing": 0.2,
    "label_delay": 7,
    "label_delay_schedule": "memoryless",
    "labelled": 0.8,
}


def options_of(name):
    """All options that the scenario allows, at once."""
    scenario = SCENARIOS[name]
    world = scenario.world(scenario.settings(), 0)
    options = dict(EVERYTHING)
    if world.classes is not None:
        options["imbalance"] = 0.5
    if len(world.features) < 2:
        del options["missing"]
    return options


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_all_options_together_give_a_stream_that_repeats_and_does_not_depend_on_blocks(name):
    """Options that work one by one and not together are of no use for hard cases."""
    scenario = SCENARIOS[name]
    settings = scenario.settings(**options_of(name))
    world = scenario.world(settings, 3)

    whole = list(simulate(name, events=400, seed=3, **options_of(name)))

    assert list(stream(world, settings, seed=3, events=400, block_events=23)) == whole
    assert list(itertools.islice(stream(world, settings, seed=3, events=None), 100)) == whole[:100]
    assert {s.task for s in whole} == {f"task-{i}" for i in range(6)}


@pytest.mark.parametrize(
    "option", [{"missing": 0.3}, {"label_delay": 5}, {"labelled": 0.5}, {"label_delay_schedule": "memoryless"}]
)
def test_an_option_changes_only_what_it_is_about(option):
    """Two runs that differ in one option can be compared event by event."""
    kept = {"events": 500, "seed": 5, "tasks": 4, "concept_events": 30}
    plain = list(simulate("shared-representation", **kept))
    other = list(simulate("shared-representation", **kept, **option))

    for a, b in zip(plain, other, strict=True):
        assert (a.y, a.task, a.ts, a.id, a.concept, a.drifted) == (b.y, b.task, b.ts, b.id, b.concept, b.drifted)
        assert b.x.items() <= a.x.items()


def test_features_are_missing_as_often_as_asked_for_and_never_all():
    """An event without any feature is refused by the service."""
    gone = [6 - len(s.x) for s in simulate("shared-representation", events=5000, missing=0.3)]
    nearly_all = [len(s.x) for s in simulate("sea", events=2000, missing=0.95)]

    assert abs(np.mean(gone) / 6 - 0.3) < 0.01
    assert min(nearly_all) == 1
    assert np.mean(nearly_all) < 1.2


@pytest.mark.parametrize("name", ["sea", "agrawal", "random-rbf", "shared-representation"])
def test_imbalance_makes_class_0_common_and_leaves_the_law(name):
    """The rare class must stay learnable: only how often an event is of it may change."""
    kept = {"events": 6000, "seed": 2, "noise": 0}
    plain = np.mean([s.y == 0 for s in simulate(name, **kept)])
    skewed = list(simulate(name, imbalance=0.9, **kept))
    share = np.mean([s.y == 0 for s in skewed])

    assert share == pytest.approx(0.9 + 0.1 * plain, abs=0.03)
    if name == "sea":
        assert all(s.y == (s.x["x0"] + s.x["x1"] <= [8, 9, 7, 9.5][s.concept]) for s in skewed)


def _readouts(clusters, spread):
    """The concept each of 12 tasks has, as a direction in hidden space: found by regression on the noiseless labels."""
    settings = {"tasks": 12, "drift": "none", "noise": 0.0, "clusters": clusters, "cluster_spread": spread}
    represent = hidden_features(SCENARIOS["shared-representation"].settings(**settings), 4)
    own = defaultdict(list)
    for s in simulate("shared-representation", events=12_000, seed=4, **settings):
        own[int(s.task.removeprefix("task-"))].append(s)
    concepts = []
    for task in range(12):
        h = represent(np.array([list(s.x.values()) for s in own[task]]))
        y = 2 * np.array([s.y for s in own[task]]) - 1
        concept = np.linalg.lstsq(h, y, rcond=None)[0]
        concepts.append(concept / np.linalg.norm(concept))
    return np.array(concepts)


@pytest.mark.parametrize(("spread", "least", "most"), [(0.0, 0.98, 1.0), (0.3, 0.5, 0.95)])
def test_tasks_of_a_cluster_have_laws_alike_and_others_do_not(spread, least, most):
    """Sharing among some tasks and not all is what a learner of tasks has to find out."""
    concepts = _readouts(3, spread)
    alike = concepts @ concepts.T
    same = np.array([[a % 3 == b % 3 and a != b for b in range(12)] for a in range(12)])

    assert least <= alike[same].mean() <= most
    assert alike[~same & ~np.eye(12, dtype=bool)].mean() < alike[same].mean() - 0.2


def test_tasks_of_a_cluster_pass_through_the_same_laws_at_times_of_their_own():
    """What one task has seen is then a forecast for its siblings."""
    visits = defaultdict(list)
    times = defaultdict(list)
    for number, s in enumerate(simulate("sea", events=8000, seed=1, tasks=6, clusters=2, concept_events=100)):
        if not visits[s.task] or s.drifted:
            visits[s.task].append(s.concept)
            times[s.task].append(number)

    shortest = min(len(of_task) for of_task in visits.values())
    sequences = {task: tuple(of_task[:shortest]) for task, of_task in visits.items()}
    assert shortest > 8
    assert sequences["task-0"] == sequences["task-2"] == sequences["task-4"]
    assert sequences["task-1"] == sequences["task-3"] == sequences["task-5"]
    assert sequences["task-0"] != sequences["task-1"]
    assert times["task-0"][1:] != times["task-2"][1:]


def test_a_late_label_comes_after_so_many_events_and_at_the_end_all_that_are_due():
    """Delay decides how old the knowledge of a learner is; a label too early would be a leak."""
    samples = list(simulate("sea", events=50, label_delay=7))
    told = {}
    seen = 0
    for one in with_late_labels(samples):
        if isinstance(one, Sample):
            seen += 1
        else:
            told[int(one.id)] = seen
            assert one.y == samples[int(one.id)].y

    assert [told[i] for i in range(50)] == [min(i + 8, 50) for i in range(50)]


def test_delays_by_a_constant_hazard_have_the_mean_asked_for_and_some_labels_never_come():
    """In real life labels overtake each other, and many are lost."""
    delays = [
        s.label_after
        for s in simulate("sea", events=20_000, label_delay=40, label_delay_schedule="memoryless", labelled=0.7)
    ]
    come = [delay for delay in delays if delay is not None]

    assert abs(len(come) / 20_000 - 0.7) < 0.01
    assert min(come) >= 1
    assert abs(np.mean(come) - 40) < 1.5
    assert np.std(come) > 30


def test_records_of_late_and_lost_labels_decode_as_the_service_reads_them():
    """A label that slipped into the event's own record would be a leak through the wire."""
    samples = simulate("sea", events=300, seed=1, label_delay=3, labelled=0.5)
    decoder = Decoder()
    kinds = defaultdict(int)
    for one in with_late_labels(samples):
        read = decoder.decode(Record(one.to_json(), Origin("t", 0, 0)))
        kinds[type(read)] += 1
        if isinstance(one, LateLabel):
            assert isinstance(read, Label)
            assert (read.id, read.y, read.task) == (one.id, one.y, one.task)
        else:
            assert isinstance(read, Event)
            assert read.y is None

    assert kinds[Event] == 300
    assert 110 < kinds[Label] < 190


def test_a_late_label_needs_an_id_to_refer_to():
    """Without one the label could be anybody's."""
    with pytest.raises(ValueError, match="event 0 of a: its label comes late, so it wants an `id`"):
        list(with_late_labels([Sample({"x": 1.0}, 1, "a", 0.0, label_after=2)]))


@pytest.mark.parametrize(
    ("name", "chosen", "says"),
    [
        ("switching-sinusoids", {"imbalance": 0.5}, "this scenario has no classes"),
        ("switching-sinusoids", {"missing": 0.5}, "there is one feature only"),
        ("led", {"clusters": 2, "cluster_spread": 0.5, "tasks": 4}, "cluster_spread is above 0, but these concepts"),
        ("sea", {"missing": 1.0}, "missing: Input should be less than 1"),
        ("sea", {"label_delay": -1}, "label_delay: Input should be greater than or equal to 0"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_the_first_event(name, chosen, says):
    """A stream that silently ignored an option would be reported under its name."""
    with pytest.raises(ConfigError) as raised:
        simulate(name, events=10, **chosen)

    assert says in str(raised.value)


def test_units_of_a_tasks_own_change_features_and_targets_and_nothing_else():
    """The same stream in other units, so that a learner can be asked to predict the same."""
    kept = {"events": 400, "seed": 5, "tasks": 4}
    plain = list(simulate("switching-sinusoids", **kept))
    other = list(simulate("switching-sinusoids", **kept, scale_spread=2.0, offset_spread=3.0))

    assert [(s.task, s.ts, s.concept, s.drifted) for s in other] == [
        (s.task, s.ts, s.concept, s.drifted) for s in plain
    ]
    for task in {s.task for s in plain}:
        for value in (lambda s: s.x["x0"], lambda s: s.y):
            pairs = [(value(a), value(b)) for a, b in zip(plain, other, strict=True) if a.task == task]
            factor, offset = np.polyfit(*np.array(pairs).T, 1)
            assert factor > 0
            assert abs(factor - 1) > 1e-3
            np.testing.assert_allclose([factor * a + offset for a, _ in pairs], [b for _, b in pairs], rtol=1e-6)


def test_zero_points_do_not_change_scales_and_classes_stay_classes():
    """Each option is about one thing."""
    kept = {"events": 300, "seed": 2, "tasks": 3}
    scaled = list(simulate("shared-representation", **kept, scale_spread=1.0))
    both = list(simulate("shared-representation", **kept, scale_spread=1.0, offset_spread=2.0))

    assert [s.y for s in scaled] == [s.y for s in both]
    for task in {s.task for s in scaled}:
        gaps = [b.x["x0"] - a.x["x0"] for a, b in zip(scaled, both, strict=True) if a.task == task]
        np.testing.assert_allclose(gaps, gaps[0], rtol=1e-6)


def test_in_the_level_scenario_a_task_alone_says_little_and_its_level_nearly_all():
    """What a learner must not throw away: who centres each task by itself has lost the classes."""
    samples = list(simulate("level", events=4000, seed=1, tasks=40))
    xs, ys = np.array([[s.x["x0"], s.x["x1"]] for s in samples]), np.array([s.y for s in samples])
    tasks = np.array([s.task for s in samples])
    centred = xs.copy()
    for task in set(tasks):
        centred[tasks == task] -= xs[tasks == task].mean(axis=0)

    def error(x):
        w, *_ = np.linalg.lstsq(np.c_[x, np.ones(len(x))], 2 * ys - 1, rcond=None)
        return np.mean((np.c_[x, np.ones(len(x))] @ w > 0) != ys)

    assert error(xs) < 0.05
    assert error(centred) > 0.3
