//! What the node's process writes down of a sandbox that runs, so that the next one knows what was told of it.
