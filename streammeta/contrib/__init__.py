"""What the literature names and no stream that we measure gains by: off by default, and kept out of the core.

In comes what has a source, tests, and a figure in `benchmarks/README.md`, and is off by default. To the core goes what
helps on some recorded stream by more than chance and harms none; out goes what nobody names in a setting for two minor
versions, after a deprecation. Nothing here is imported before a setting names it, and the core saves nothing of it.

* `sampling`: tasks by recency, by loss, by nearest tasks (`[meta] sampling`)
* `escalation`: more meta-updates for tasks that stay bad (`[meta] escalate_events`)
* `renewal`: fresh hidden units for useless ones (`[meta] renew_every`)
* `search`: rates and penalties by optuna, for training on episodes (`streammeta[search]`)
"""
