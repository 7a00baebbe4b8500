"""The pure state machine: `Core.apply` changes state, everything else only reads."""
