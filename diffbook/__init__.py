"""diffbook: what a chapter needs to be a chapter, and nothing that a model needs.

Beside ``diffutils``, which holds the mathematics and can be read and used without it, stand here

- ``claims``: a claim is named, measured, bounded and printed, and raises if it does not hold;
- ``exercises``: what is said about a reader's answers, chapter by chapter;
- ``figures``, ``diagrams``, ``dark``: one style of plotting, descriptions in words, a picture for dark pages;
- ``interactive``: sliders, with a kernel and without one;
- ``faults``, ``museum``: bugs that can be switched on, and the collection of them that chapter 12 shows.

Chapters, tests and tools import from both. ``diffutils`` imports nothing from here.
"""
