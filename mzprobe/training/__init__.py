"""Training MuZero: self-play, replay, targets, loss, and the loop that joins them."""
