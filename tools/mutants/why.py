"""Why a fault is not caught, where the table cannot say it by itself."""

# Of the list, by no chapter: target and name of the fault, a sentence.
WHY: dict[str, str] = {}

# Made by rule, by no unit test: a pattern that is found in target and name of the edit, a sentence.
WHY_NOT: dict[str, str] = {}
