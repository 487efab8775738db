"""Why a fault is not caught, where the table cannot say it by itself."""

# Of the list, by no chapter: target and name of the fault, a sentence.
WHY: dict[str, str] = {}

# Made by rule, by no unit test: a pattern that is found in target and name of the edit, a sentence.
WHY_NOT: dict[str, str] = {
    r"Schedule\.__init__: .*cumsum\( -1\)": "a list has one axis: the last is the first",
    r"Schedule\.with_zero_terminal_snr: .*-> .*where\(share <= 0\.5,": (
        "one number has two formulas, and at 0.5 both keep all their digits"
    ),
    r"Schedule\.with_zero_terminal_snr: .*-> before, last = float\(self\.alpha_bar\[- 1\]\)": (
        "it is the number in a message that is written only where alpha_bar[T-1] and alpha_bar[T] are equal"
    ),
    r"Schedule\.from_noise_levels: .*-> .*where\(levels (<= 1|< 2),": (
        "one number has two formulas, and for levels from 1 to 2 both keep all their digits"
    ),
    r"denoiser\.predict_step: .*check_int\(\"t\", t, 1, .*-> .*\"t\", t, 0,": (
        "the schedule's own check of the jump, a line below, refuses t = 0 in the same words"
    ),
    r"denoiser\.start: .*-> like = torch\.empty\( 1\) ": "only its dtype and its device are read",
    r"process\.(forward_step: \w+: spread|posterior: \w+: (weight_xt|return)|convert: \w+: s) .*-> .*minimum= 0": (
        "t = 0 was refused already, where the first table of the function was read"
    ),
}
