//! A deterministic simulator of whole Lictor clusters, with oracles and scenarios.
