"""Faults in the command line trainer and in the options for speed."""

from __future__ import annotations

# module: (what is wrong, function, before, after)
FAULTS = {
    "diffutils.speed": [
        ("bfloat16 asked for and not used", "autocast", 'if precision == "float32":', "if True:"),
        ("half the exponent's range", "autocast", "dtype=torch.bfloat16", "dtype=torch.float16"),
        ("networks left as they are", "compile_networks", "network.compile(mode=mode)", "pass"),
        ("the time given as an int", "_called", "*(times_for(t, x) if isinstance(t, int) else t for t in times)", "*times"),
        ("answers that share one memory", "_called", "answer.clone() if copies and isinstance(answer, Tensor) else answer",
         "answer"),
        ("answers copied by the default mode alone", "compile_networks", 'mode != "default"', 'mode == "default"'),
    ],
    "diffutils.train.checkpoint": [
        ("written in place", "write_atomically", "os.replace(beside, path)",
         "path.write_bytes(data); beside.unlink()"),
        ("half of a file left behind", "write_atomically", "beside.unlink(missing_ok=True)\n        raise", "raise"),
        ("a checkpoint may run code", "load", "weights_only=True", "weights_only=False"),
        ("a foreign file let in", "load", "if found != FORMAT:", "if False:"),
        ("what does not fit ends in a raw error", "put_back", "(ValueError, RuntimeError)", "KeyError"),
        ("what a kill left is kept", "remove_unfinished", "path.unlink(missing_ok=True)", "pass"),
        ("another's files removed", "remove_unfinished", "OURS.fullmatch(path.name)", "path.name.endswith(UNFINISHED)"),
    ],
    "diffutils.train.images": [
        ("hidden files taken for images", "load", 'name.startswith(".")', "False"),
        ("what is damaged ends in a raw error", "_read", "(OSError, SyntaxError, ValueError, Image.DecompressionBombError)",
         "OSError"),
        ("the corner taken for the middle", "_read", "(size, size), Image.Resampling.LANCZOS",
         "(size, size), Image.Resampling.LANCZOS, centering=(0.0, 0.0)"),
        ("images between 0 and 2", "_read", "/ 127.5 - 1.0", "/ 127.5"),
        ("folders below left out", "load", 'folder.rglob("*")', 'folder.glob("*")'),
        ("channels and places mixed up", "_read", ".permute(2, 0, 1)", ".reshape(channels, size, size)"),
        ("what is transparent shows what is hidden under it", "_on_white", "not image.has_transparency_data", "True"),
        ("what is transparent shown on black", "_on_white", '"white"', '"black"'),
        ("all images have one hash", "fingerprint", "images.numpy().tobytes()", "b''"),
    ],
    "diffutils.train.parallel": [
        ("every process takes the first share", "ParallelRun.__init__",
         "slice(accelerator.process_index * share, (accelerator.process_index + 1) * share)", "slice(0, share)"),
        ("shares of one example", "share_of", "return batch // processes", "return 1"),
        ("a batch that cannot be shared let in", "share_of", "fits = batch % processes == 0", "fits = True"),
        ("the loss of one process alone", "ParallelRun._gather",
         'self.accelerator.reduce(self.losses[start : self.step], "mean")', "self.losses[start : self.step]"),
    ],
    "diffutils.train.recipe": [
        ("the seed of the weights ignored", "Recipe.build", "seed=self.seed,", "seed=0,"),
        ("the last weights, not the averaged ones", "load_model", 'state["run"]["averages"]',
         'state["run"]["model"]'),
        ("images that do not fit the network let in", "Recipe.image_shape", "fits = shape[-1] % multiple == 0",
         "fits = True"),
    ],
    "diffutils.train.session": [
        ("other images let in", "Session.__init__", 'state is None or state["images"] == self._hash', "True"),
        ("resumed from the first step", "Session.__init__", 'checkpoint.put_back(out / checkpoint.NAME, self.training.load_state_dict, state["run"])', "pass"),
        ("rows of steps that were lost stay", "Session._prepare", "and int(row[0]) <= step", ""),
        ("the mean of all losses in each row", "Session._log", "start = run.step - self._logged, self._logged",
         "start = run.step - self._logged, 0"),
        ("samples of the last weights", "Session._draw", "DDIM(run.averaged,", "DDIM(run.model,"),
        ("sheets that become data", "Session.__init__", 'require(apart, "out"', 'require(True, "out"'),
        ("sheets need a folder that stays", "Session._draw", "self._sheets.mkdir(exist_ok=True)", "pass"),
        ("two processes in one folder", "Session._prepare", "self._lock.acquire()", "pass"),
        ("a lock left behind", "Session.close", "(self.out / checkpoint.LOCK).unlink()", "pass"),
        ("a checkpoint that another has gone beyond let in", "Session._prepare", 'require(same, "out"', 'require(True, "out"'),
        ("a signal not heard", "Session.stop", "self.training.stop()", "pass"),
    ],
    "diffutils.train.command": [
        ("a run written over", "main", "saved is not None or not taken", "True"),
        ("a resumed run takes other options", "_resumed", 'if name != "data" and saved[name] != value:', "if False:"),
        ("a run without a checkpoint forgets its recipe", "main", "checkpoint.load_recipe(out) if resume else None", "None"),
    ],
}  # fmt: skip
