"""The models of the book, behind one small interface.

Home chapter: 1, overview of generative models.

Every model is a ``torch.nn.Module`` and has

- ``loss(x, *, generator=None) -> Tensor``: a scalar whose gradient trains all of its parameters, for a batch x;
- ``sample(n, *, generator=None) -> Tensor``: n new examples, on the model's device and in its dtype, without gradient;

and, where the family has a likelihood, in nats per example, one value for each x:

- ``log_prob(x)``: exact (flows);
- ``elbo(x)``: a lower bound (VAE, DPM, DDPM); ``importance_bound(x, k)``: a tighter one (VAE).

So ``diffutils.training.train`` trains them all with one loop, and a chapter compares them side by side. The modules:

- ``gan.GAN``: a generator against a discriminator, no likelihood;
- ``vae.VAE``: a latent variable and a lower bound;
- ``flows.NICE``, ``flows.RealNVP``, ``flows.Glow``: invertible networks and an exact likelihood;
- ``dpm.DPM``: a chain of small steps with learned means and variances, trained on the whole lower bound;
- ``ncsn.NCSN``: the score at a ladder of noise levels, no likelihood;
- ``ddpm.DDPM``: a denoiser and a chain of small steps, a lower bound (``diffutils.objectives``).
"""
