//! What a node that begins makes of what it finds.
