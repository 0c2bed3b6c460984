"""Where agents come from: one file a source."""
