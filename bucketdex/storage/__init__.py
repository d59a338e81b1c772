"""The object stores, the file format, the manifest and its compare-and-swap, paths."""
