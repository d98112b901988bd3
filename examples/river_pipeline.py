"""MetaClassifier in a River pipeline: many tasks in one stream, labels that come late, a metric of River's."""

from collections.abc import Iterator

from river import compose, evaluate, metrics, preprocessing

from streammeta import MetaClassifier
from streammeta.simulators import simulate


def events(count: int) -> Iterator[tuple[dict[str, object], object]]:
    """Features and label, as River's data sets give them; the feature `device` names the task."""
    for sample in simulate("shared-representation", events=count, seed=1, tasks=20):
        yield {"device": sample.task, **sample.x}, sample.y


def main() -> None:
    """Evaluate prequentially, with each label 50 events late."""
    numbers = compose.SelectType(float) | preprocessing.StandardScaler()
    model = (numbers + compose.Select("device")) | MetaClassifier(task="device", seed=1)

    accuracy = evaluate.progressive_val_score(
        events(3_000), model, metrics.Accuracy(), delay=50, print_every=1_000, show_time=True
    )

    print("in all:", accuracy)


if __name__ == "__main__":
    main()
