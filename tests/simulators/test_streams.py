"""simulators: streams that repeat by seed, drift where they say so, and can be learned as they promise."""

import itertools
import tracemalloc
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from streammeta.errors import ConfigError
from streammeta.event import Decoder, Origin, Record
from streammeta.simulators import SCENARIOS, Sample, hidden_features, simulate, stream

NAMES = list(SCENARIOS)
DRIFTS = ["abrupt", "gradual", "incremental", "none"]


def of_each_task(samples):
    """Each task's samples, in order."""
    tasks = defaultdict(list)
    for sample in samples:
        tasks[sample.task].append(sample)
    return tasks


def inputs(samples):
    return np.array([list(s.x.values()) for s in samples])


def labels(samples):
    return np.array([s.y for s in samples])


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_same_stream_and_another_seed_another(name):
    """Demos, tests and measurements that cannot be repeated prove nothing."""
    first = list(simulate(name, events=500, seed=4, tasks=5, concept_events=30))

    assert list(simulate(name, events=500, seed=4, tasks=5, concept_events=30)) == first
    assert list(simulate(name, events=500, seed=5, tasks=5, concept_events=30)) != first


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10, deadline=None)
@given(block=st.integers(1, 700), drift=st.sampled_from(DRIFTS), tasks=st.integers(1, 12))
def test_the_stream_does_not_depend_on_how_it_is_computed(name, block, drift, tasks):
    """Blocks are for speed only; and a longer stream begins like a shorter one."""
    scenario = SCENARIOS[name]
    if drift == "incremental" and not scenario.world(scenario.settings(), 3).blends:
        drift = "gradual"
    chosen = scenario.settings(
        tasks=tasks, drift=drift, drift_width=9, concept_events=25, start_tasks=2, popularity=0.5
    )
    world = scenario.world(chosen, 3)

    whole = list(stream(world, chosen, seed=3, events=600))

    assert list(stream(world, chosen, seed=3, events=600, block_events=block)) == whole
    assert list(itertools.islice(stream(world, chosen, seed=3, events=None, block_events=block), 250)) == whole[:250]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("schedule", ["uniform", "fixed", "memoryless"])
def test_abrupt_drifts_are_where_the_concept_changes_and_as_often_as_asked(name, schedule):
    """Reports score drift detection by these marks."""
    samples = simulate(name, events=8000, seed=2, tasks=4, concept_events=50, schedule=schedule, drift="abrupt")
    lengths = []
    for own in of_each_task(samples).values():
        for before, after in itertools.pairwise(own):
            assert after.drifted == (after.concept != before.concept)
        assert not own[0].drifted
        switches = [i for i, sample in enumerate(own) if sample.drifted]
        lengths += np.diff(switches).tolist()

    assert 40 < np.mean(lengths) < 60
    bounds = {"uniform": (38, 62), "fixed": (50, 50), "memoryless": (1, 600)}[schedule]
    assert bounds[0] <= min(lengths)
    assert max(lengths) <= bounds[1]
    assert schedule != "memoryless" or np.std(lengths) > 30


def test_without_drift_a_task_keeps_its_law():
    """The control of every experiment about drift."""
    samples = list(simulate("shared-representation", events=5000, seed=1, tasks=2, concept_events=20, drift="none"))

    assert not any(s.drifted for s in samples)
    assert {s.concept for s in samples} == {0}


def test_gradual_drift_mixes_both_laws_and_ends_in_the_new_one():
    """Between the two concepts events follow the one or the other, more and more often the new one."""
    settings_ = {"tasks": 40, "concept_events": 200, "drift": "gradual", "drift_width": 60, "schedule": "fixed"}
    shares = np.zeros(100)
    switches = 0
    for own in of_each_task(simulate("shared-representation", events=40_000, seed=6, **settings_)).values():
        for at in (i for i, s in enumerate(own[:-100]) if s.drifted):
            new = own[at + 99].concept
            after = np.array([s.concept for s in own[at : at + 100]])
            assert set(after) <= {new - 1, new}
            assert all(after[60:] == new)
            assert all(s.concept == new - 1 for s in own[max(at - 100, 0) : at])
            shares += after == new
            switches += 1

    shares /= switches
    assert switches > 100
    np.testing.assert_allclose(
        [shares[:20].mean(), shares[20:40].mean(), shares[40:60].mean()], [1 / 6, 0.5, 5 / 6], atol=0.05
    )


def test_incremental_drift_moves_the_law_itself():
    """A sine wave whose amplitude and phase travel is at no time one of the two concepts, nor a mixture of them."""
    kept = {"tasks": 1, "concept_events": 200, "drift_width": 100, "schedule": "fixed", "noise": 0}
    wave = list(simulate("switching-sinusoids", events=400, seed=11, drift="incremental", **kept))
    jump = list(simulate("switching-sinusoids", events=400, seed=11, drift="abrupt", **kept))

    first, second = (_wave_concept(jump[at : at + 200]) for at in (0, 200))
    halfway = (first + second) / 2
    x = np.array([s.x["x0"] for s in wave[245:256]])

    assert [s.y for s in wave[:200]] == [s.y for s in jump[:200]]
    assert [s.y for s in wave[300:]] == [s.y for s in jump[300:]]
    np.testing.assert_allclose(labels(wave[245:256]), halfway[0] * np.sin(x + halfway[1]), atol=0.35)
    assert [s.x for s in wave] == [s.x for s in jump]


def _wave_concept(samples):
    """Amplitude and phase of noiseless samples of A sin(x + φ)."""
    x = inputs(samples)[:, 0]
    sine, cosine = np.linalg.lstsq(np.stack([np.sin(x), np.cos(x)], axis=1), labels(samples), rcond=None)[0]
    return np.array([np.hypot(sine, cosine), np.arctan2(cosine, sine)])


def test_sinusoids_have_the_published_ranges():
    """The literature's few-shot regression benchmark is only comparable in its own ranges."""
    own = of_each_task(simulate("switching-sinusoids", events=40_000, seed=2, tasks=200, drift="none", noise=0))
    concepts = np.array([_wave_concept(samples) for samples in own.values()])
    x = np.concatenate([inputs(samples) for samples in own.values()])

    assert 0.1 <= concepts[:, 0].min() < 0.4
    assert 4.7 < concepts[:, 0].max() <= 5
    assert -1e-3 <= concepts[:, 1].min() < 0.2
    assert 2.9 < concepts[:, 1].max() <= np.pi + 1e-3
    assert x.min() < -4.9
    assert x.max() > 4.9


def test_the_noise_of_a_target_has_the_deviation_asked_for():
    """Known noise is the floor against which an error is read."""
    kept = {"events": 20_000, "seed": 2, "tasks": 3}
    clean = simulate("switching-sinusoids", noise=0, **kept)
    noisy = simulate("switching-sinusoids", noise=0.3, **kept)

    assert abs(np.std(labels(list(noisy)) - labels(list(clean))) - 0.3) < 0.01


@pytest.mark.parametrize("classes", [2, 5])
def test_wrong_labels_are_as_many_as_asked_for_and_of_every_other_class(classes):
    """1 − noise is the best accuracy there is; reports compare with it."""
    kept = {"events": 20_000, "seed": 2, "tasks": 3, "classes": classes}
    clean = labels(list(simulate("shared-representation", noise=0, **kept)))
    noisy = labels(list(simulate("shared-representation", noise=0.2, **kept)))
    steps = Counter(((noisy - clean) % classes).tolist())

    assert abs(steps[0] / 20_000 - 0.8) < 0.01
    for step in range(1, classes):
        assert abs(steps[step] / 20_000 - 0.2 / (classes - 1)) < 0.01


def test_a_task_is_learned_from_its_hidden_features_and_not_from_what_is_observed():
    """The promise of the default scenario: few events are enough once the representation is known, and only then."""
    chosen = {"tasks": 20, "drift": "none", "noise": 0.0}
    own = of_each_task(simulate("shared-representation", events=20_000, seed=8, **chosen))
    represent = hidden_features(SCENARIOS["shared-representation"].settings(**chosen), 8)
    scores = defaultdict(list)
    for samples in own.values():
        x, y = inputs(samples), labels(samples)
        for count in (20, 400):
            scores["hidden", count].append(_accuracy(represent(x), y, count))
        scores["observed", 400].append(_accuracy(x, y, 400))
    everything = [s for samples in own.values() for s in samples]
    one_for_all = _accuracy(represent(inputs(everything)), labels(everything), 10_000)

    assert np.mean(scores["hidden", 20]) > 0.8
    assert np.mean(scores["hidden", 400]) > 0.95
    assert np.mean(scores["observed", 400]) < 0.6
    assert one_for_all < 0.65


def _accuracy(x, y, count):
    """Of a logistic regression trained on the first events, on the rest."""
    if len(set(y[:count])) < 2:
        return float(np.mean(y[count:] == y[0]))
    return LogisticRegression(max_iter=500).fit(x[:count], y[:count]).score(x[count:], y[count:])


def test_recurring_concepts_come_back_and_are_shared_by_all_tasks():
    """A season that returns can be recognized only if it is the very same concept."""
    chosen = {"tasks": 3, "concept_events": 100, "noise": 0.0, "concepts": 3}
    samples = list(simulate("recurring-concepts", events=20_000, seed=3, **chosen))
    represent = hidden_features(SCENARIOS["recurring-concepts"].settings(**chosen), 3)

    assert {s.concept for s in samples} == {0, 1, 2}
    for own in of_each_task(samples).values():
        visits = [s.concept for s in own if s.drifted]
        assert len(visits) > len(set(visits))
        assert all(a != b for a, b in itertools.pairwise(visits))
    for concept in range(3):
        of_concept = [s for s in samples if s.concept == concept]
        assert _accuracy(represent(inputs(of_concept)), labels(of_concept), 2000) > 0.98


def test_stagger_and_sea_follow_their_published_laws():
    """Known streams by known names, or results cannot be compared."""
    stagger = {
        0: lambda x: x["size"] == 0 and x["colour"] == 0,
        1: lambda x: x["colour"] == 1 or x["shape"] == 0,
        2: lambda x: x["size"] > 0,
    }
    for s in simulate("stagger", events=5000, seed=1, concept_events=100):
        assert s.y == stagger[s.concept](s.x)
        assert set(s.x.values()) <= {0.0, 1.0, 2.0}
    for s in simulate("sea", events=5000, seed=1, concept_events=100, noise=0):
        assert s.y == (s.x["x0"] + s.x["x1"] <= [8, 9, 7, 9.5][s.concept])


def test_popular_tasks_speak_more_often():
    """Real tasks are not alike: few are busy, most are not."""
    alike = Counter(s.task for s in simulate("shared-representation", events=20_000, seed=1, tasks=50))
    zipf = Counter(s.task for s in simulate("shared-representation", events=20_000, seed=1, tasks=50, popularity=1.0))

    assert max(alike.values()) < 1.5 * min(alike.values())
    assert abs(zipf["task-0"] / zipf["task-9"] - 10) < 2


def test_tasks_arrive_over_time():
    """How a learner meets new tasks is what the project is about."""
    first = {}
    for number, s in enumerate(
        simulate("shared-representation", events=9000, seed=1, tasks=30, start_tasks=10, new_task_every=200)
    ):
        first.setdefault(int(s.task.removeprefix("task-")), number)

    assert set(first) == set(range(30))
    for task, number in first.items():
        assert number >= max(0, task - 9) * 200
    assert max(first[task] for task in range(10)) < 200


@pytest.mark.parametrize("name", NAMES)
def test_every_sample_decodes_to_what_it_was(name):
    """The records are the service's own format, and do not tell the learner the truth about concepts."""
    decoder = Decoder()
    for sample in simulate(name, events=300, seed=9, tasks=3, concept_events=50):
        raw = sample.to_json()
        event = decoder.decode(Record(raw, Origin("t", 0, 0)))

        assert (event.x, event.y, event.task, event.ts, event.id) == (
            sample.x,
            sample.y,
            sample.task,
            sample.ts,
            sample.id,
        )
        assert b"concept" not in raw
        assert b"drifted" not in raw
    assert b'"id"' not in Sample({"a": 1.0}, 1, "t", 0.0).to_json()


def test_time_goes_forward_at_the_rate_asked_for():
    """Windows and rates of a report are read off the time stamps."""
    times = [s.ts for s in simulate("sea", events=1001, events_per_second=50)]

    np.testing.assert_allclose(np.diff(times), 0.02, atol=1e-5)


def test_memory_does_not_grow_with_events():
    """A stream may run for weeks."""
    samples = simulate("shared-representation", events=None, tasks=50)
    peaks = []
    tracemalloc.start()
    for _ in range(2):
        tracemalloc.reset_peak()
        for _ in itertools.islice(samples, 30_000):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()

    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.parametrize(
    ("name", "chosen", "says"),
    [
        ("shared", {}, "no scenario 'shared'; wanted one of shared-representation, switching-sinusoids"),
        ("sea", {"task": 3}, "simulate sea: task: Extra inputs are not permitted, got 3; its settings are tasks"),
        ("sea", {"tasks": 0}, "tasks: Input should be greater than or equal to 1, got 0"),
        ("sea", {"drift": "sudden"}, "drift: Input should be 'abrupt', 'gradual'"),
        ("sea", {"noise": 2}, "noise: Input should be less than or equal to 1"),
        ("stagger", {"drift": "incremental"}, "these concepts have nothing between them; take 'gradual'"),
        ("stagger", {"seed": -1}, "got seed=-1"),
        ("stagger", {"events": -1}, "wanted neither below 0"),
    ],
)
def test_wrong_settings_are_refused_before_the_first_event(name, chosen, says):
    """One clear sentence, and not an exception out of numpy after an hour."""
    with pytest.raises(ConfigError) as raised:
        simulate(name, **{"events": 10, **chosen})

    assert says in str(raised.value)


@pytest.mark.parametrize("name", NAMES)
def test_the_registry_tells_what_a_scenario_is_and_what_can_be_set(name):
    """The command line's help is made of it."""
    scenario = SCENARIOS[name]
    values = {s.y for s in simulate(name, events=2000)}

    assert scenario.summary
    assert "\n" not in scenario.summary
    assert (scenario.kind == "classification") == all(isinstance(y, int) for y in values)
    assert all(field.description for field in scenario.settings.model_fields.values())
