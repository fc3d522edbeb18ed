"""From files to packs of examples: sources, token cache, order, packing."""
