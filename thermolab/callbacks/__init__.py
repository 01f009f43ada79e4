"""A `Watch` in the training loops of other libraries, a module each: `lightning` and `transformers`, which are extras."""
