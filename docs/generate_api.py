"""The page of the public interface, docs/api.md: `python -m docs.generate_api` writes it from what is exported.

The page is the documented list: a name that appears or goes shows in its diff, and a test holds that both agree.
"""

from importlib import import_module
from pathlib import Path

__all__ = ["PAGE", "PUBLIC", "main", "page"]

PAGE = Path(__file__).with_name("api.md")
PUBLIC = {  # module -> what it is for; all that it exports is public
    "streammeta": "The names most people need.",
    "streammeta.engine": "The engine as a plain object: events in, outcomes out.",
    "streammeta.event": "Records, events and labels, and how a record is read.",
    "streammeta.errors": "Every error that is raised on purpose.",
    "streammeta.decisions": "Choose actions, learn from rewards, evaluate policies.",
    "streammeta.simulators": "Seeded streams of many tasks that drift.",
    "streammeta.meta.methods": "The meta-learning methods, as factories of a learner.",
    "streammeta.meta.learner": "What a learner is: a tuple of pure functions.",
    "streammeta.meta.rl": "Meta-reinforcement: environments, rules, and policies that learn a task from its rewards.",
    "streammeta.meta.objective": "The outer step of gradient-based methods.",
    "streammeta.meta.optimizer": "Optimizers of the inner and the outer loop.",
    "streammeta.model": "Networks as (init, apply).",
    "streammeta.episode.family": "Families of tasks for training without a stream.",
    "streammeta.episode.image": "Omniglot and MNIST as families of tasks.",
    "streammeta.episode.sinusoid": "Sinusoids as a family of tasks.",
    "streammeta.episode.table": "A table with a task column as a family of tasks.",
    "streammeta.offline.training": "Meta-training without a stream.",
    "streammeta.offline.evaluation": "How good a θ is on new tasks.",
    "streammeta.offline.store": "A trained θ as a file.",
    "streammeta.testing": "For tests: a log in memory with crash points, a driver, contract checks.",
    "streammeta.deprecation": "How a public name goes.",
}
_HEAD = """# The public interface

These names may be used by others: they change only after a minor version that warns (`StreammetaDeprecationWarning`).
Everything else may change at any time. Made by `python -m docs.generate_api`; a test holds that this page lists what is
exported.
"""


def page() -> str:
    """The page: a section a module, with a block for each name that mkdocstrings fills from its docstring."""
    parts = [_HEAD]
    for module, purpose in PUBLIC.items():
        names = [name for name in import_module(module).__all__ if not name.startswith("__")]
        parts.append(f"\n## {module}\n{purpose}\n")
        parts += [f"\n### `{module}.{name}`\n\n::: {_place(module, name)}\n" for name in sorted(names)]
    return "".join(parts)


def _place(module: str, name: str) -> str:
    """Where it is defined, so that a name which two modules offer has one description."""
    found = getattr(import_module(module), name)
    home = getattr(found, "__module__", None)
    known = home is not None and home.startswith("streammeta") and getattr(import_module(home), name, None) is found
    return f"{home}.{name}" if known else f"{module}.{name}"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
