def missing() -> list[str]:
    """Names of the instruction sets that the kernels need and this processor lacks."""
