"""What happened: attempts, waits and use of the machines out of a log, as numbers and as a page.

Reads events only, so it works for the history of a service and for a simulated one alike.
"""
