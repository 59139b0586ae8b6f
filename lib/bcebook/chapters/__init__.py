"""One module a chapter, and the registry that finds them."""
