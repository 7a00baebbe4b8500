"""Where a job goes: scores of nodes, and the search for the best fit."""
