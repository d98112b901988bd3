"""Replay a file of your own through the service's loop, beside a model of River's.

Each row is predicted first and learned from afterwards, so the error is that of a service which would have run then.
"""

import csv
import random
from pathlib import Path

import streammeta


def write_a_file(path: Path, rows: int = 1_500) -> None:
    """Sales of six shops: what sells in a shop depends on price and weather, in each shop otherwise."""
    draw = random.Random(1)
    taste = {f"shop-{i}": (draw.uniform(-1, 1), draw.uniform(-1, 1)) for i in range(6)}
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["task", "price", "warm", "y"])
        for _ in range(rows):
            shop, price, warm = draw.choice(list(taste)), draw.uniform(-1, 1), draw.uniform(-1, 1)
            sold = taste[shop][0] * price + taste[shop][1] * warm + draw.gauss(0, 0.1) > 0
            table.writerow([shop, round(price, 3), round(warm, 3), "sold" if sold else "kept"])


def main() -> None:
    """Make the file, replay it, print the comparison, and write the report."""
    file = Path("shops.csv")
    write_a_file(file)

    result = streammeta.replay(file, against=["river:forest.ARFClassifier(n_models=3, seed=1)"], seed=1)

    print(result.learners[["learner", "accuracy", "kappa"]])
    result.html("shops.html")
    print("the report with pictures is in shops.html")


if __name__ == "__main__":
    main()
