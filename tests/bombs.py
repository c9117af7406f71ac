"""Pickles that leave a mark when they are opened, since nothing may ever open one."""

import os
import pickle


class Bomb:
    """An object whose pickle makes the folder *mark* when it is loaded. *ballast* makes the pickle big."""

    def __init__(self, mark, ballast=0):
        self.mark = str(mark)
        self.ballast = ballast

    def __reduce__(self):
        return _explode, (self.mark, "x" * self.ballast)


def _explode(mark, _):
    os.makedirs(mark, exist_ok=True)  # noqa: PTH103 (it runs while a pickle is read: as little as can be)
    return '{"format":1}'


def check_that_it_would_explode(bomb):
    """Assert that loading the bomb makes the mark."""
    pickle.loads(pickle.dumps(bomb))  # noqa: S301 (that is the point)
    assert os.path.isdir(bomb.mark)  # noqa: PTH112
