//! Lictor's v1 HTTP API on trillium.
