//! Who is believed, and who is refused with which words.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail"
)]

mod common;

use std::net::UdpSocket;

use bytes::Bytes;
use common::{Agent, PATIENCE, client, echo, identity, key, options, run, server, until};
use lictor_machine::NodeId;
use lictor_transport_quic::{
    CaRequest, CertRequest, Identity, Limits, Options, PemPair, Plane, RefusalKind, Role, Target, Transport,
    Trust, TrustFiles, ca_create, cert_create,
};

/// Calls on `plane` and returns the error's text, and the kind under which the callee counted its refusal.
async fn refused(caller: &Agent, callee: &Agent, plane: Plane) -> (String, Vec<RefusalKind>) {
    let target = Target::Address(callee.address());
    let error = caller
        .transport
        .call(target, plane, Bytes::new(), PATIENCE)
        .await
        .unwrap_err();
    let counted = |transport: &Transport| {
        let stats = transport.stats();
        RefusalKind::ALL
            .into_iter()
            .filter(|kind| stats.refused(*kind) > 0)
            .collect::<Vec<_>>()
    };
    until("the refusal is counted", || {
        !counted(&callee.transport).is_empty() || !counted(&caller.transport).is_empty()
    })
    .await;
    (error.to_string(), counted(&callee.transport))
}

#[test]
fn another_key_is_refused_on_both_sides_in_clear_words() {
    run(async {
        let ours = Agent::start(server(1));
        let theirs = Agent::start(options(identity(2, Role::Server, "dc1"), key(8)));
        let (text, _) = refused(&ours, &theirs, Plane::Raft).await;
        assert!(
            text.contains("not issued by this cluster's authority: is -encrypt"),
            "{text}"
        );
        // The caller was first to see it; the callee hears why.
        assert_eq!(ours.transport.stats().refused(RefusalKind::Authority), 1);
        let refusals = ours.transport.recent_refusals();
        assert_eq!(refusals.len(), 1);
        assert_eq!(refusals[0].address, theirs.address());
        assert!(refusals[0].reason.to_string().contains("is -encrypt"));
        until("the callee heard of it", || {
            theirs.transport.recent_refusals().len() == 1
        })
        .await;
        let reason = theirs.transport.recent_refusals()[0].reason.to_string();
        assert!(
            reason.contains("the peer refused the connection") && reason.contains("is -encrypt"),
            "{reason}"
        );
        assert_eq!(
            theirs.transport.stats().refused(RefusalKind::Authority),
            0,
            "it refused nobody"
        );
        until("nothing is left open", || theirs.transport.stats().incoming == 0).await;
    });
}

#[test]
fn a_caller_that_believes_both_keys_is_still_refused_by_who_does_not() {
    run(async {
        let trust = key(8).and_believe(&key(7)).unwrap();
        let caller = Agent::start(options(identity(1, Role::Server, "dc1"), trust));
        let callee = Agent::start(server(2));
        let (text, counted) = refused(&caller, &callee, Plane::Raft).await;
        assert!(text.contains("the peer refused the connection"), "{text}");
        assert!(text.contains("is -encrypt"), "{text}");
        assert_eq!(counted, [RefusalKind::Authority]);
    });
}

#[test]
fn a_key_is_changed_without_losing_anybody() {
    run(async {
        let agents: Vec<_> = (1..=2).map(|node| Agent::start(server(node))).collect();
        let addresses: Vec<_> = agents
            .iter()
            .map(|agent| Target::Address(agent.address()))
            .collect();
        let agents: Vec<_> = agents.into_iter().map(echo).collect();
        let all_talk = async || {
            for (agent, address) in agents.iter().zip(addresses.iter().rev()) {
                agent
                    .call(*address, Plane::Rpc, Bytes::new(), PATIENCE)
                    .await
                    .unwrap();
                // As after an idle time, so that the next call needs a handshake.
                agent
                    .call(*address, Plane::Wan, Bytes::new(), PATIENCE)
                    .await
                    .unwrap();
            }
        };
        all_talk().await;
        for phase in [
            key(7).and_believe(&key(8)).unwrap(),
            key(8).and_believe(&key(7)).unwrap(),
            key(8),
        ] {
            for agent in &agents {
                agent.reload(phase.clone()).unwrap();
                all_talk().await;
                let joiner = Agent::start(options(identity(9, Role::Client, "dc1"), phase.clone()));
                for address in &addresses {
                    joiner
                        .transport
                        .call(*address, Plane::Rpc, Bytes::new(), PATIENCE)
                        .await
                        .unwrap();
                }
                joiner.transport.close().await;
            }
        }
    });
}

#[test]
fn another_data_center_is_refused_where_it_has_no_business() {
    run(async {
        let near = Agent::start(server(1));
        let far = Agent::start(options(identity(2, Role::Server, "dc2"), key(7)));
        for plane in [Plane::Raft, Plane::Rpc, Plane::Gossip] {
            let (text, counted) = refused(&near, &far, plane).await;
            assert!(text.contains("does not cross data centers"), "{text}");
            assert!(text.contains("\"dc1\"") && text.contains("\"dc2\""), "{text}");
            assert_eq!(counted, [RefusalKind::Datacenter]);
        }
        let address = far.address();
        let _far = echo(far);
        let (peer, _) = near
            .transport
            .call(address, Plane::Wan, Bytes::new(), PATIENCE)
            .await
            .unwrap();
        assert_eq!(peer.identity.datacenter, "dc2");
    });
}

#[test]
fn a_client_may_not_act_as_a_server() {
    run(async {
        let client = Agent::start(client(1));
        let server = Agent::start(server(2));
        for plane in [Plane::Raft, Plane::Wan] {
            let (text, counted) = refused(&client, &server, plane).await;
            assert!(text.contains("only a server may be"), "{text}");
            assert_eq!(counted, [RefusalKind::Role]);
        }
        for plane in [Plane::Raft, Plane::Rpc, Plane::Wan] {
            let (text, counted) = refused(&server, &client, plane).await;
            assert!(text.contains("only a server may be"), "{text}");
            assert_eq!(counted, [RefusalKind::Role]);
        }
    });
}

#[test]
fn another_node_at_the_address_gets_nothing() {
    run(async {
        let caller = Agent::start(server(1));
        let mut callee = Agent::start(server(2));
        caller.transport.set_address(NodeId(3), callee.address());
        let error = caller
            .transport
            .call(NodeId(3), Plane::Rpc, Bytes::from_static(b"secret"), PATIENCE)
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("-000000000003, but it is") && text.contains("\"node-2\""),
            "{text}"
        );
        assert!(callee.incoming.try_next().is_none());
        assert_eq!(caller.transport.stats().refused(RefusalKind::WrongNode), 1);
    });
}

#[test]
fn garbage_is_ignored() {
    run(async {
        let caller = Agent::start(client(1));
        let callee = Agent::start(server(2));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for length in [0, 1, 20, 1200, 1472] {
            for fill in [0, 0x40, 0xc0, 0xff] {
                socket.send_to(&vec![fill; length], callee.address()).unwrap();
            }
        }
        caller.knows(&callee);
        let callee = echo(callee);
        caller
            .transport
            .call(NodeId(2), Plane::Rpc, Bytes::new(), PATIENCE)
            .await
            .unwrap();
        assert_eq!(callee.stats().handshakes, 1);
    });
}

#[test]
fn connections_are_bounded() {
    run(async {
        let limits = Limits {
            max_connections: 1,
            ..Limits::default()
        };
        let callee = Agent::start(Options { limits, ..server(2) });
        let address = callee.address();
        let callee = echo(callee);
        let first = Agent::start(client(1));
        first
            .transport
            .call(address, Plane::Rpc, Bytes::new(), PATIENCE)
            .await
            .unwrap();
        let second = Agent::start(client(3));
        let error = second
            .transport
            .call(address, Plane::Rpc, Bytes::new(), PATIENCE)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("too many connections"), "{error}");
        assert_eq!(callee.stats().refused(RefusalKind::TooMany), 1);
        first.transport.close().await;
        until("there is room", || callee.stats().incoming == 0).await;
        let third = Agent::start(client(4));
        third
            .transport
            .call(address, Plane::Rpc, Bytes::new(), PATIENCE)
            .await
            .unwrap();
    });
}

#[test]
fn agents_of_one_user_trust_each_other() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let start = |node, directory: &tempfile::TempDir| {
            let trust = Trust::user_authority(directory.path()).unwrap();
            Agent::start(options(identity(node, Role::Server, "dc1"), trust))
        };
        let callee = start(1, &directory);
        let stranger = start(3, &other);
        let (text, _) = refused(&stranger, &callee, Plane::Raft).await;
        assert!(text.contains("not issued by this cluster's authority"), "{text}");
        let caller = start(2, &directory);
        let address = callee.address();
        let _callee = echo(callee);
        caller
            .transport
            .call(address, Plane::Raft, Bytes::new(), PATIENCE)
            .await
            .unwrap();
    });
}

/// Writes an operator's files to a directory of their own and trusts them.
struct Files(tempfile::TempDir);

impl Files {
    fn new(ca: &PemPair, request: &CertRequest) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pair = cert_create(&ca.certificate, &ca.key, request).unwrap();
        std::fs::write(directory.path().join("ca.pem"), &ca.certificate).unwrap();
        std::fs::write(directory.path().join("cert.pem"), &pair.certificate).unwrap();
        std::fs::write(directory.path().join("key.pem"), &pair.key).unwrap();
        Self(directory)
    }

    fn start(&self, identity: Identity) -> Agent {
        let path = |name: &str| self.0.path().join(name);
        Agent::start(options(
            identity,
            Trust::files(TrustFiles {
                ca_file: path("ca.pem"),
                cert_file: path("cert.pem"),
                key_file: path("key.pem"),
                domain: "consul".into(),
            }),
        ))
    }
}

#[test]
fn an_operators_certificates_grant_their_roles() {
    run(async {
        let ca = ca_create(&CaRequest {
            name_constraint: true,
            ..CaRequest::default()
        })
        .unwrap();
        let server_files = Files::new(&ca, &CertRequest::new(Role::Server, "dc1"));
        let client_files = Files::new(&ca, &CertRequest::new(Role::Client, "dc1"));
        let server = server_files.start(identity(1, Role::Server, "dc1"));
        let client = client_files.start(identity(2, Role::Client, "dc1"));
        let (text, counted) = refused(&client, &server, Plane::Raft).await;
        assert!(text.contains("only a server may be"), "{text}");
        assert_eq!(counted, [RefusalKind::Role]);
        let address = server.address();
        let _server = echo(server);
        let (peer, _) = client
            .transport
            .call(address, Plane::Rpc, Bytes::new(), PATIENCE)
            .await
            .unwrap();
        assert_eq!(peer.node(), NodeId(1), "the id is the peer's word");
        let other = server_files.start(identity(3, Role::Server, "dc1"));
        other
            .transport
            .call(address, Plane::Raft, Bytes::new(), PATIENCE)
            .await
            .unwrap();
    });
}

#[test]
fn an_operators_other_authority_is_refused() {
    run(async {
        let request = CertRequest::new(Role::Server, "dc1");
        let ours = Files::new(&ca_create(&CaRequest::default()).unwrap(), &request);
        let theirs = Files::new(&ca_create(&CaRequest::default()).unwrap(), &request);
        let callee = ours.start(identity(1, Role::Server, "dc1"));
        let caller = theirs.start(identity(2, Role::Server, "dc1"));
        let (text, _) = refused(&caller, &callee, Plane::Rpc).await;
        assert!(text.contains("(or ca_file)"), "{text}");
    });
}
