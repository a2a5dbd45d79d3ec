"""What ends a section before it is through."""


class Failed(Exception):
    """A figure could not be taken, or would be wrong; the text says why. The other sections go on."""


class Paused(Exception):
    """The time for this run is over; --resume goes on."""
