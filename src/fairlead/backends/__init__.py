"""Where jobs run. Every backend follows desired state (model/messages.py). Imports model only."""
