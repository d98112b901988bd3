"""Few-shot image classification: W classes are drawn, a few images of each to adapt on, others to be judged by.

The files are read from a folder that is given; nothing is downloaded. What they are: Omniglot, Lake, Salakhutdinov &
Tenenbaum (2015); MNIST, LeCun & Cortes (1998); Fashion-MNIST, Xiao, Rasul & Vollgraf (2017).
"""

import gzip
import struct
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch

from streammeta.episode.family import Draw, Family
from streammeta.errors import ConfigError, TransportError
from streammeta.meta.catalogue import Problem
from streammeta.meta.learner import TaskBatch, examples

__all__ = ["few_shot", "idx_images", "idx_labels", "mnist", "omniglot", "omniglot_pools"]

_OMNIGLOT_TRAIN = 1_200  # characters for meta-training in MAML's and Reptile's protocol; the other 423 are held out
_SIDE = 28


def omniglot(file: Path, *, ways: int = 5, seed: int = 0, rotations: bool = True) -> Family:
    """Omniglot, 28x28: 1,200 random characters to train on (each turned by 0, 90, 180, 270 degrees: 4,800 classes).

    Args:
        file: ``omniglot28.npz``: images [32460, 28, 28] uint8 in rows of 20 drawings a character.
        ways: classes of a task.
        seed: of the choice of characters.
        rotations: whether turned characters are classes of their own in training.
    """
    train, test = omniglot_pools(file, seed=seed, rotations=rotations)
    return few_shot(f"omniglot-{ways}-way", train, test, ways=ways)


def omniglot_pools(file: Path, *, seed: int = 0, rotations: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of the training and of the held-out characters, each [classes, 20, 28, 28] uint8."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            images = np.asarray(arrays["images"], dtype=np.uint8).reshape(-1, 20, _SIDE, _SIDE)
    except (OSError, KeyError, ValueError, BadZipFile) as err:
        wanted = "omniglot28.npz with `images` [32460, 28, 28] uint8"
        raise TransportError(f"{file}: not Omniglot ({err}); wanted {wanted}") from err
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    pool = torch.from_numpy(images)[order]
    train, test = pool[:_OMNIGLOT_TRAIN], pool[_OMNIGLOT_TRAIN:]
    turned = [torch.rot90(train, quarter, (2, 3)) for quarter in range(4 if rotations else 1)]
    return torch.cat(turned), test


def mnist(folder: Path, *, ways: int = 3, unseen: Literal["classes", "images"] = "classes") -> Family:
    """MNIST or Fashion-MNIST: training images to train on, the other 10,000 held out.

    Args:
        folder: holds the four files of the data set, ``train-images-idx3-ubyte.gz`` and so on.
        ways: classes of a task.
        unseen: "classes" trains on 0 to 6 and tests on 7 to 9, which is little to generalize from; "images" trains and
            tests on all ten, so that what is new in a test is the images, and which class has which label.
    """
    split = (range(7), range(7, 10)) if unseen == "classes" else (range(10), range(10))
    pools = []
    for part, classes in zip(("train", "t10k"), split, strict=True):
        images = idx_images(folder / f"{part}-images-idx3-ubyte.gz")
        labels = idx_labels(folder / f"{part}-labels-idx1-ubyte.gz")
        each = min(int((labels == k).sum()) for k in classes)  # as many of every class
        pools.append(torch.from_numpy(np.stack([images[labels == k][:each] for k in classes])))
    return few_shot(f"{folder.name}-{ways}-way", pools[0], pools[1], ways=ways)


def few_shot(name: str, train: torch.Tensor, test: torch.Tensor, *, ways: int) -> Family:
    """Tasks of W random classes with random labels, from pools of images [classes, images a class, H, W] uint8.

    Examples come in random order, so that a method that reads them one by one learns nothing from it. ``support`` and
    ``query`` count the images of a class.
    """
    if not 2 <= ways <= min(len(train), len(test)):
        raise ConfigError(f"family {name}: got {ways=}; wanted 2 to {min(len(train), len(test))}")
    side = train.shape[-1]
    problem = Problem("classification", inputs=side * side, outputs=ways, image_side=side, hidden=(128, 128))
    return Family(name, problem, _drawing(train, ways), _drawing(test, ways))


def _drawing(pool: torch.Tensor, ways: int) -> Draw:
    def draw(generator: torch.Generator, tasks: int, support: int, query: int) -> TaskBatch:
        if support + query > pool.shape[1]:
            found = f"{support} + {query} images a class"
            raise ConfigError(f"episodes: got {found}; wanted at most {pool.shape[1]}, which is what there is")
        classes = torch.rand(tasks, len(pool), generator=generator).topk(ways, 1).indices  # [T, W]
        which = torch.rand(tasks, ways, pool.shape[1], generator=generator).topk(support + query, 2).indices
        x = pool[classes.unsqueeze(-1), which].float().div_(255).unsqueeze(3)  # [T, W, n, 1, H, W]
        y = torch.arange(ways).view(1, ways, 1).expand(tasks, ways, support + query)
        halves = []
        for start, stop in ((0, support), (support, support + query)):
            order = torch.rand(tasks, ways * (stop - start), generator=generator).argsort(1)
            rows = torch.arange(tasks).unsqueeze(1)
            halves.append(
                examples(x[:, :, start:stop].flatten(1, 2)[rows, order], y[..., start:stop].flatten(1)[rows, order])
            )
        return TaskBatch(*halves)

    return draw


def idx_images(file: Path) -> npt.NDArray[np.uint8]:
    """The images [n, H, W] of a gzipped IDX file."""
    images: npt.NDArray[np.uint8] = _idx(file, 3)
    return images


def idx_labels(file: Path) -> npt.NDArray[np.uint8]:
    """The labels [n] of a gzipped IDX file."""
    labels: npt.NDArray[np.uint8] = _idx(file, 1)
    return labels


def _idx(file: Path, dimensions: int) -> Any:  # noqa: ANN401  numpy's reshape
    head = 4 + 4 * dimensions
    try:
        data = gzip.decompress(file.read_bytes())
        magic, *shape = struct.unpack(f">{1 + dimensions}I", data[:head])
        values = np.frombuffer(data, dtype=np.uint8, offset=head)
        if magic != 0x0800 + dimensions:
            raise ValueError(f"magic number {magic:#x}")  # noqa: TRY301  reported in one place, below
        return values.reshape(shape)
    except (OSError, EOFError, ValueError, struct.error) as err:
        raise TransportError(f"{file}: not readable ({err}); wanted a gzipped IDX file of bytes") from err
