"""Plans by optimisation: plain amounts in, plans with their proof out. Stands on `model` alone.

Floats are allowed here, unlike in `policy`: what a plan says is checked in integers before it is
used. Every solver is deterministic for the same input unless its time limit is reached.
"""
