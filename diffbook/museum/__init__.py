"""The bug museum: real bugs of this field, each as an edit to diffutils that can be switched on.

An ``Exhibit`` holds a bug that was reported in public, as a ``Fault`` of diffutils, and the statistic that gives it
away:

    bug = museum.exhibits["padding"]
    with bug.planted():
        ...                                  # all of diffutils runs the bug here
    right, wrong = bug.measure()             # its statistic without the bug and with it

Every statistic is the distance of something from the value it must have, so the right code keeps it below the exhibit's
``bound``, and the bug lifts it far above (``factor`` times the bound at least).

Home chapter: the bug museum (12).
"""

from diffbook.museum.catalogue import ROOMS, Exhibit, Measurement, exhibits
from diffbook.museum.pictures import PICTURED, samples

__all__ = ["PICTURED", "ROOMS", "Exhibit", "Measurement", "exhibits", "samples"]
