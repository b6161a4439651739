"""One module for each revision, named by it; never changed once released."""
