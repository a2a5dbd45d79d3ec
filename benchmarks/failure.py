"""The one exception of the benchmarks."""


class Failed(Exception):
    """A figure could not be taken, or would be wrong; the text says why. The other sections go on."""
