"""Where episodes come from: apart, repeatable, and shuffled so that order tells nothing."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from streammeta.episode.augment import augmented, noisy, rescaled, shifted, turned
from streammeta.episode.family import Family
from streammeta.episode.image import few_shot, idx_images, mnist, omniglot
from streammeta.episode.sinusoid import sinusoids
from streammeta.episode.table import Table, folds, read_table, table
from streammeta.errors import ConfigError, TransportError


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _pool(classes: int, first: int = 0) -> torch.Tensor:
    """Four images a class, 8x8; pixel (0, 0) is the class, pixel (0, 1) the image."""
    pool = torch.zeros(classes, 4, 8, 8, dtype=torch.uint8)
    pool[:, :, 0, 0] = torch.arange(first, first + classes).unsqueeze(1)
    pool[:, :, 0, 1] = torch.arange(4)
    return pool


def _rows(tasks: int = 5, each: int = 12) -> Table:
    x = torch.arange(tasks * each, dtype=torch.float32).unsqueeze(1)
    of = torch.arange(tasks).repeat(each)  # tasks take turns, as in a stream
    return Table("rows", "classification", x, (of % 2).long(), of, (0, 1))


def test_sinusoids_are_sinusoids_and_repeat_with_the_generator():
    """All figures of the benchmark rest on this formula."""
    batch = sinusoids().train(_generator(), 50, 10, 5)

    x, y = (torch.cat([half[i] for half in batch], 1) for i in (0, 1))
    basis = torch.cat([torch.sin(x), torch.cos(x)], -1).double()  # a sin(x - b) is a sum of the two
    fitted = torch.linalg.lstsq(basis, y.double()).solution
    torch.testing.assert_close(basis @ fitted, y.double(), atol=1e-5, rtol=0)
    amplitude = fitted.norm(dim=1)
    assert amplitude.min() >= 0.1
    assert amplitude.max() <= 5
    assert x.abs().max() <= 5
    again = sinusoids().train(_generator(), 50, 10, 5)
    assert all(
        torch.equal(one, other) for a, b in zip(batch, again, strict=True) for one, other in zip(a, b, strict=True)
    )


def test_few_shot_tasks_have_each_class_as_often_and_no_image_twice():
    """An image in both support and query would be recognized, not classified."""
    batch = few_shot("pool", _pool(6), _pool(3, first=6), ways=3).train(_generator(), 20, 1, 2)

    for t in range(20):
        images = torch.cat([batch.support.x[t], batch.query.x[t]]).mul(255).round().flatten(1)[:, :2]
        labels = torch.cat([batch.support.y[t], batch.query.y[t]])
        assert len(images.unique(dim=0)) == 9
        assert batch.support.y[t].sort().values.tolist() == [0, 1, 2]
        assert batch.query.y[t].bincount().tolist() == [2, 2, 2]
        pairs = {(label, image) for label, image in zip(labels.tolist(), images[:, 0].tolist(), strict=True)}
        assert len(pairs) == 3  # one label for one class of the pool


def test_few_shot_order_tells_nothing_and_test_classes_are_new():
    """A recurrent learner would read the label from the position; held-out figures would be training figures."""
    family = few_shot("pool", _pool(6), _pool(3, first=6), ways=3)

    train, test = family.train(_generator(), 200, 1, 2), family.test(_generator(), 200, 1, 2)

    assert len({tuple(row) for row in train.support.y.tolist()}) == 6
    assert train.query.x[..., 0, 0].mul(255).round().max() < 6
    assert test.query.x[..., 0, 0].mul(255).round().min() >= 6


@pytest.mark.data
def test_omniglot_is_split_by_character(data_file: Callable[[str], Path]):
    """1,200 characters with their turns to train, 423 without to test, as the published figures have it."""
    family = omniglot(data_file("omniglot/omniglot28.npz"), ways=5)

    batch = family.test(_generator(), 2, 1, 3)

    assert batch.support.x.shape == (2, 5, 1, 28, 28)
    assert batch.query.x.shape == (2, 15, 1, 28, 28)
    assert 0.5 < batch.query.x.max() <= 1
    with pytest.raises(ConfigError, match="wanted 2 to 423"):
        omniglot(data_file("omniglot/omniglot28.npz"), ways=424)


@pytest.mark.data
@pytest.mark.parametrize("folder", ["mnist", "fashion_mnist"])
def test_mnist_files_are_read(folder: str, data_file: Callable[[str], Path]):
    """Both sets have the same format, which is read here without a library of data sets."""
    family = mnist(data_file(f"{folder}/train-images-idx3-ubyte.gz").parent)

    batch = family.train(_generator(), 2, 2, 3)

    assert family.problem.inputs == 784
    assert batch.query.x.shape == (2, 9, 1, 28, 28)
    assert 0.05 < batch.query.x.mean() < 0.6


def test_a_damaged_image_file_is_told_by_its_name(tmp_path: Path):
    """Not a traceback out of struct."""
    file = tmp_path / "broken.gz"
    file.write_bytes(gzip.compress(struct.pack(">4I", 0x803, 2, 2, 2) + b"12345"))

    with pytest.raises(TransportError, match=r"broken\.gz: not readable.*wanted a gzipped IDX"):
        idx_images(file)


def test_table_tasks_are_apart_and_rows_stay_in_order():
    """Episodes of a recorded stream must be what a learner would have met: the past to adapt on, then the future."""
    family = table(_rows(), held_out=[1, 3])

    train, test = (draw(_generator(), 40, 3, 4) for draw in (family.train, family.test))

    def raw(batch):
        spread = _rows().x[torch.isin(_rows().task, torch.tensor([0, 2, 4]))].std(correction=0)
        return (torch.cat([batch.support.x, batch.query.x], 1).squeeze(-1) * spread).diff(dim=1)

    assert torch.allclose(raw(train), torch.tensor(5.0), atol=1e-3)  # a task's rows are five apart
    assert set(test.query.y.unique().tolist()) == {1}
    assert set(train.query.y.unique().tolist()) == {0}


def test_a_short_task_fills_what_it_can():
    """Real tasks are of all lengths; the mask says what is there."""
    batch = table(_rows(each=4), held_out=[0]).train(_generator(), 3, 3, 5)

    assert batch.support.mask.sum(1).tolist() == [3, 3, 3]
    assert batch.query.mask.tolist() == [[1, 0, 0, 0, 0]] * 3


def test_folds_hold_out_every_task_once():
    """Otherwise cross-validation would judge some tasks twice and others never."""
    seen = [fold.test(_generator(), 60, 2, 2).query.y for fold in folds(_rows(tasks=4), 4)]

    assert sorted(int(y.unique()) for y in seen) == [0, 0, 1, 1]
    with pytest.raises(ConfigError, match="got 9 folds; wanted 2 to 5"):
        folds(_rows(), 9)


def test_a_recorded_stream_becomes_a_table(tmp_path: Path):
    """The same file that `replay` reads; rows without a label are not learned from."""
    file = tmp_path / "shop.csv"
    file.write_text("price,colour,task,y\n1.5,red,a,yes\n2.5,blue,b,no\n3.5,red,a,\n4.5,red,b,yes\n")

    rows = read_table(file, "classification")

    assert rows.classes == ("yes", "no")
    assert rows.y.tolist() == [0, 1, 0]
    assert rows.task.tolist() == [0, 1, 1]
    assert rows.x[:, 1].tolist() == [1.5, 2.5, 4.5]  # slots go by name within an event: colour=red, price, colour=blue


def test_changes_alter_training_episodes_and_nothing_else():
    """Augmented tests would make every figure a figure of something else."""
    family: Family = few_shot("pool", _pool(6), _pool(3), ways=3)
    changes = [turned(), shifted(2), noisy(0.1), rescaled(0.5, 2.0)]

    plain, changed = family, augmented(family, changes)

    assert torch.equal(plain.test(_generator(), 4, 1, 1).query.x, changed.test(_generator(), 4, 1, 1).query.x)
    one, other = (each.train(_generator(), 4, 1, 1) for each in (plain, changed))
    assert one.query.x.shape == other.query.x.shape
    assert torch.equal(one.query.y, other.query.y)
    assert not torch.equal(one.query.x, other.query.x)
    assert torch.equal(
        augmented(family, [rescaled(0.5, 2.0)]).train(_generator(), 4, 1, 1).query.x, one.query.x * 2 - 1
    )
