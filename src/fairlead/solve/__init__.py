"""Plans by optimisation, with a proof, or the reason why there is none. Stands on `model` alone.

Assignment: the front door is `solver.solve`; `problem.build` makes what it takes. Mixed hardware:
shares of time (`gavel`, `gavel_time`, `waterfill`) and the rounds that give them (`rounds`),
elastic jobs (`goodput`, `sia`), unknown rates (`matrix`), shared GPUs (`colocate`, `share`);
`lp` writes their programs. Floats are allowed here, unlike in `policy`. Solvers underneath are
lapx and HiGHS, the extra `fairlead[solve]`; docs/adr/0015 says why.
"""
