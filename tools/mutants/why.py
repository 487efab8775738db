"""Why no chapter notices a fault, where "its claims still hold" is not the whole answer: target and name, a sentence."""

WHY: dict[str, str] = {}
