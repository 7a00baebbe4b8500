"""Exact assignment: which task goes where, with a proof, or the reason why it cannot be.

Stands on `model` alone. The front door is `solver.solve`; `problem.build` makes what it takes.
Solvers underneath are lapx and HiGHS, the extra `fairlead[solve]`; docs/adr/0015 says why.
"""
