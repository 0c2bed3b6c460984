"""What outputs say of themselves: typed records, digests of the code, versions, seals, and kept training targets."""
