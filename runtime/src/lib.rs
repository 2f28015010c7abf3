//! The executor seam: a small runtime trait and the one driver loop over a machine.
