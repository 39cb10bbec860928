"""Waiting for what another process does in its own time."""

import time


def eventually(probe, timeout=30, interval=0.05):
    """What `probe` returns as soon as that is true. AssertionErrors of `probe` count as not yet; the last one is the story
    that is told when the time is up."""
    deadline = time.monotonic() + timeout
    while True:
        story = None
        try:
            result = probe()
            if result:
                return result
        except AssertionError as error:
            story = error
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout} s: {story or probe}") from story
        time.sleep(interval)
