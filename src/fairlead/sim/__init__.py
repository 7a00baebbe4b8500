"""The virtual world: replays traces through the same core and policies that the service runs."""
