"""StreetScenes: drawn street scenes with people, riders and vehicles, in the layouts of real datasets.

``write`` draws a set once; the project's readers of the real datasets then read it. A scene is a function of the
seed, the split and its index, whatever the machine or the number of processes.
"""

from .writing import LAYOUTS, write

__all__ = ["LAYOUTS", "write"]
