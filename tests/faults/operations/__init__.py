"""All operations that change what is stored, which the fault tests interrupt and repeat.

Each is a function that loads what it needs and returns the call that is to be interrupted. Called again, on another
manager, it is what a caller does who does not know whether his call was stored: he looks, and does what is missing.
"""

from tests.faults.operations import sessions, upkeep  # noqa: F401 (they fill the table)
from tests.faults.operations.table import OPERATIONS, Operation

__all__ = ["OPERATIONS", "Operation"]
