"""Something small that is done again and again while something large goes on."""

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def repeated(do: Callable[[], None], every: float) -> Iterator[None]:
    """Within the block a thread calls `do` every so many seconds, the first time after as many; it is over when the
    block is. What `do` raises ends the thread alone: let it raise nothing that matters."""
    over = threading.Event()

    def follow() -> None:
        while not over.wait(every):
            do()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
