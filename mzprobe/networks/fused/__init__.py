"""Networks of perceptrons in compiled kernels on a CPU, with a fixed order of operations and no call of torch."""
