//! QUIC with mutual TLS between Lictor's agents: identities, planes, lanes and cached connections.
