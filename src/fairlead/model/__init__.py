"""The nouns: units, resources, jobs, nodes, events and messages. Imports msgspec only."""
