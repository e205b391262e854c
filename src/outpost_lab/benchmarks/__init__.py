"""What `outpost bench` measures: each promise of speed against its peer, in the same session, over the same line."""
