"""Networks of perceptrons in compiled kernels, on a CPU: arithmetic of an order of our own, no call of torch."""
