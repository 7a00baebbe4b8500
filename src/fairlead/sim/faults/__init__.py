"""Deterministic fault simulation: the real core, turn, store, codecs and agent in a hostile world.

Read in this order: plan.py (what a seed stands for), menu.py (how it is drawn), world.py (the
clock), network.py, machine.py, service.py, client.py (the inhabitants), oracles.py (the truth),
run.py and shrink.py (many seeds; one failure, made small).
"""
