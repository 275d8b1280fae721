"""What all tutorials share: where the broker is, names of their own, checks, and an end to waiting."""

import faulthandler
import os
import uuid

URL = os.environ["AMQP_URL"]
SECONDS = 20

# Whatever hangs longer than this ends the script, and says in which line of which thread that was.
faulthandler.dump_traceback_later(SECONDS + 5, exit=True)


class Unexpected(Exception):
    """The broker did something else."""


def check(what, actual, expected):
    if actual != expected:
        raise Unexpected(f"{what}: {actual!r} instead of {expected!r}")


def own_name(word):
    """A name that nothing else on the broker has: it may not be ours alone."""
    return f"interop-{word}-{uuid.uuid4().hex[:12]}"


def fibonacci(number):
    """The work that tutorial 6 asks a server for."""
    smaller, larger = 0, 1
    for _ in range(number):
        smaller, larger = larger, smaller + larger
    return smaller
