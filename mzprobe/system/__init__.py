"""What the operating system gives: memory, cores, threads, signals, streams, and child processes."""
