"""One stream with several kinds of input: numbers, words and small images, without a model from anywhere else.

Robots in several warehouses meet parcels. Of each they have its weight, and a photo of the digit on it, or what was
typed, or both. What they learn: does it go left (0 to 4) or right? In every second warehouse it is the other way about,
so each is a task.
"""

import base64
from collections.abc import Iterator, Sequence

import numpy as np
from river import metrics
from sklearn.datasets import load_digits

from streammeta import MetaClassifier

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def brightness(photo: str) -> Sequence[float]:
    """An encoder of our own: 64 numbers of an 8 × 8 photo in base64. Any function of a value will do, a network too."""
    pixels: list[float] = (np.frombuffer(base64.b64decode(photo), np.uint8) / 16).tolist()
    return pixels


def parcels(count: int) -> Iterator[tuple[dict[str, object], str]]:
    """Features and label of each parcel."""
    digits, random = load_digits(), np.random.default_rng(1)
    for i in range(count):
        photo, digit = digits.images[i].astype(np.uint8), int(digits.target[i])
        warehouse = int(random.integers(6))
        parcel: dict[str, object] = {"warehouse": f"w{warehouse}", "kg": float(random.gamma(2.0))}
        shown = random.integers(3)  # a photo, a text, or both
        if shown != 0:
            parcel["typed"] = f"parcel no {random.integers(1_000)}, digit {WORDS[digit]}"
        if shown != 1:
            parcel["photo"] = base64.b64encode(photo.tobytes()).decode()
        yield parcel, "left" if (digit < 5) == (warehouse % 2 == 0) else "right"


def main() -> None:
    """Predict each, then learn; how right, by what the robot had."""
    features = {"text": ["typed"], "encoders": {"photo": f"{__name__}:brightness"}}
    model = MetaClassifier(task="warehouse", settings={"features": features}, seed=1)
    right = {"photo": metrics.Accuracy(), "text": metrics.Accuracy(), "both": metrics.Accuracy()}
    for i, (parcel, y) in enumerate(parcels(1_797)):
        said = model.predict_one(parcel)
        model.learn_one(parcel, y)
        if i >= 600 and said is not None:
            right["both" if {"photo", "typed"} <= parcel.keys() else "photo" if "photo" in parcel else "text"].update(
                y, said
            )

    for shown, score in right.items():
        print(f"{shown}: {score}")


if __name__ == "__main__":
    main()
