//! One running Lictor agent: configuration, sockets and disks around the pure cores.
