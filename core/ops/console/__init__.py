"""`fairlane console`: what operators ask by command, as pages in a browser on the operator's own machine.

Over the same use cases as the commands. Nothing of it is deployed.
"""

from core.ops.console.command import console

__all__ = ["console"]
