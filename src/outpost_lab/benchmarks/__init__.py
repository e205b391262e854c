"""What `outpost bench` measures: each promise of speed beside its peer, in the same session, over the same line."""
