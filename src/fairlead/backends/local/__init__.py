"""Jobs as processes of this machine: agent (one) -> supervisor (one per member) -> job."""
