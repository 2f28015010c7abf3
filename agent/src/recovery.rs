//! `peers.json`: an operator names the members that a cluster without a quorum goes on with.
//!
//! The file is put into `raft/` of the data directory of every server that is left, each stopped. It is applied at the
//! next start, once, and set aside.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use lictor_machine::NodeId;
use lictor_node::PeerAddress;
use lictor_raft::{Configuration, Recovery, RecoveryError, recover};
use serde_json::Value;

use crate::boot::{Opened, StartError, TAIL_BYTES};

/// The file's name, and what it is called when it has been applied.
const FILE: &str = "peers.json";
const APPLIED: &str = "peers.json.applied";

/// No honest file is longer, in bytes.
const LENGTH_MAX: u64 = 1 << 20;

/// More than any cluster has.
const SERVERS_MAX: usize = 64;

const FORM: &str = r#"it must be a list of servers such as {"id": "<node id>", "address": "10.0.0.1:8300", "non_voter": false}"#;

/// Why an operator's recovery cannot be carried out. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeersError {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: {detail}. Nothing was changed; mend the file, or remove it to start without a recovery", path.display())]
    Form { path: PathBuf, detail: String },
    #[error("{}: {source}. Nothing was changed; mend the file, or remove it to start without a recovery", path.display())]
    Recovery { path: PathBuf, source: RecoveryError },
}

/// One server of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Peer {
    id: NodeId,
    address: SocketAddr,
    voter: bool,
}

/// Carries out the recovery that the operator wants of server `id`, if any, and says so on standard error before it is
/// done. `opened` is then as it is after it.
pub(crate) fn apply(data_dir: &Path, id: NodeId, opened: &mut Opened) -> Result<(), StartError> {
    let path = data_dir.join("raft").join(FILE);
    let Some(text) = read(&path)? else { return Ok(()) };
    let peers = parse(&text).map_err(|detail| PeersError::Form {
        path: path.clone(),
        detail,
    })?;
    let ids = |voter| {
        peers
            .iter()
            .filter(move |peer| peer.voter == voter)
            .map(|peer| peer.id)
    };
    let (voters, learners): (BTreeSet<_>, BTreeSet<_>) = (ids(true).collect(), ids(false).collect());
    let recovery =
        recover(id, &opened.boot.raft, voters, learners).map_err(|source| PeersError::Recovery {
            path: path.clone(),
            source,
        })?;
    // If this cannot be said, nobody has read it, and it should not happen.
    io::stderr().write_all(preview(&path, &recovery).as_bytes())?;
    opened.log.write(std::slice::from_ref(&recovery.batch))?;
    opened.boot = opened.log.load(TAIL_BYTES)?;
    remember(&mut opened.boot.notes.peers, id, &peers);
    opened.log.write_notes(&opened.boot.notes)?;
    set_aside(&path).map_err(|source| PeersError::File { path, source })?;
    Ok(())
}

fn read(path: &Path) -> Result<Option<String>, PeersError> {
    let failed = |source| PeersError::File {
        path: path.to_owned(),
        source,
    };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    let length = file
        .take(LENGTH_MAX + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if length as u64 > LENGTH_MAX {
        return Err(PeersError::Form {
            path: path.to_owned(),
            detail: format!("it is longer than {LENGTH_MAX} bytes"),
        });
    }
    Ok(Some(text))
}

fn parse(text: &str) -> Result<Vec<Peer>, String> {
    let list: Value = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let Value::Array(list) = list else {
        return Err(FORM.to_owned());
    };
    if list.is_empty() {
        return Err(format!("it names no server; {FORM}"));
    }
    if list.len() > SERVERS_MAX {
        return Err(format!(
            "it names {} servers; at most {SERVERS_MAX} are allowed",
            list.len()
        ));
    }
    if list.iter().all(Value::is_string) {
        return Err(format!(
            "it is a list of addresses, as for Raft protocol 2. Here servers may change their addresses, and are named by their ids: {FORM}. \
             A server's id is in the file node-id of its data directory"
        ));
    }
    let mut peers: Vec<Peer> = Vec::with_capacity(list.len());
    for (number, entry) in list.iter().enumerate() {
        let peer = peer(entry).map_err(|detail| format!("server {}: {detail}", number + 1))?;
        if peers.iter().any(|other| other.id == peer.id) {
            return Err(format!("server {}: {} is named twice", number + 1, peer.id));
        }
        peers.push(peer);
    }
    Ok(peers)
}

fn peer(entry: &Value) -> Result<Peer, String> {
    let Value::Object(fields) = entry else {
        return Err(FORM.to_owned());
    };
    if let Some(unknown) = fields
        .keys()
        .find(|key| !matches!(key.as_str(), "id" | "address" | "non_voter"))
    {
        return Err(format!("{unknown:?} is not known; {FORM}"));
    }
    let text = |key: &str| {
        let text = fields.get(key).and_then(Value::as_str);
        text.ok_or_else(|| format!("{key:?} is missing, or not a text; {FORM}"))
    };
    let (id, address) = (text("id")?, text("address")?);
    let non_voter = match fields.get("non_voter") {
        None => false,
        Some(Value::Bool(non_voter)) => *non_voter,
        Some(_) => return Err("\"non_voter\" must be true or false".to_owned()),
    };
    Ok(Peer {
        id: id.parse().map_err(|_| {
            format!("{id:?} is not a node id; it is in the file node-id of the server's data directory")
        })?,
        address: address
            .parse()
            .map_err(|_| format!("{address:?} is not an IP address with a port, such as 10.0.0.1:8300"))?,
        voter: !non_voter,
    })
}

/// Takes over where the operator says that the others are.
fn remember(known: &mut Vec<PeerAddress>, id: NodeId, peers: &[Peer]) {
    for peer in peers.iter().filter(|peer| peer.id != id) {
        match known.iter_mut().find(|known| known.id == peer.id) {
            Some(known) => known.address = peer.address,
            None => known.push(PeerAddress {
                id: peer.id,
                // Until it says its own.
                name: peer.id.to_string(),
                address: peer.address,
            }),
        }
    }
}

fn preview(path: &Path, recovery: &Recovery) -> String {
    let Recovery {
        before,
        after,
        last,
        commit,
        batch: _,
    } = recovery;
    let mut text = format!(
        "==> RECOVERY: {} gives this cluster other members, without a quorum's consent\n",
        path.display()
    );
    describe(&mut text, "Members so far", before);
    describe(&mut text, "Members now", after);
    let _ = write!(
        text,
        "      Log: ends at {last}, known to be committed up to {commit}; what lies behind may come to be, or get lost\n\
         \x20     Every server that is left needs the same file. Do not start the others again with what is on their disks\n\
         \x20     now: as many of them as were a majority would go on by themselves, and what clients write there would be\n\
         \x20     lost. Empty their data directories first; then they join like new ones.\n\n"
    );
    text
}

fn describe(text: &mut String, title: &str, members: &Configuration) {
    let list = |ids: &BTreeSet<NodeId>| {
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        if ids.is_empty() {
            "none".to_owned()
        } else {
            ids.join(", ")
        }
    };
    let _ = writeln!(text, "      {title}: voters {}", list(&members.voters));
    for (what, ids) in [
        ("voters of a change under way", &members.outgoing),
        ("non-voters", &members.learners),
    ] {
        if !ids.is_empty() {
            let _ = writeln!(text, "        {what}: {}", list(ids));
        }
    }
}

fn set_aside(path: &Path) -> io::Result<()> {
    fs::rename(path, path.with_file_name(APPLIED))?;
    // Until the directory is synced the old name may come back in a power cut.
    path.parent()
        .map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use lictor_machine::{Instant, Now};
    use lictor_node::Node;

    use super::*;
    use crate::boot::open_stores;

    const ONE: &str = "00000000-0000-0000-0000-000000000001";
    const TWO: &str = "00000000-0000-0000-0000-000000000002";

    fn refused(text: &str) -> String {
        parse(text).unwrap_err()
    }

    #[test]
    fn servers_are_named_by_id() {
        let text = format!(
            r#"[{{"id": "{ONE}", "address": "10.0.0.1:8300", "non_voter": false}}, {{"id": "{TWO}", "address": "[::1]:1", "non_voter": true}}]"#
        );
        let peer = |id, address: &str, voter| Peer {
            id: NodeId(id),
            address: address.parse().unwrap(),
            voter,
        };
        assert_eq!(
            parse(&text),
            Ok(vec![peer(1, "10.0.0.1:8300", true), peer(2, "[::1]:1", false)])
        );
        let short = format!(r#"[{{"id": "{ONE}", "address": "10.0.0.1:8300"}}]"#);
        assert_eq!(parse(&short), Ok(vec![peer(1, "10.0.0.1:8300", true)]));
    }

    #[test]
    fn whatever_else_is_refused() {
        let one = format!(r#"{{"id": "{ONE}", "address": "10.0.0.1:8300"}}"#);
        let many = vec![one.as_str(); 65].join(",");
        for (text, part) in [
            ("", "not JSON"),
            ("{}", "it must be a list"),
            ("[]", "names no server"),
            (r#"["10.0.0.1:8300"]"#, "Raft protocol 2"),
            (r#"[5, "x"]"#, "server 1: it must be a list"),
            (
                r#"[{"id": "x", "address": "10.0.0.1:8300"}]"#,
                "\"x\" is not a node id",
            ),
            (r#"[{"address": "10.0.0.1:8300"}]"#, "\"id\" is missing"),
            (&format!(r#"[{{"id": "{ONE}"}}]"#), "\"address\" is missing"),
            (
                &format!(r#"[{{"id": "{ONE}", "address": "host:1"}}]"#),
                "\"host:1\" is not an IP address",
            ),
            (
                &format!(r#"[{{"id": "{ONE}", "address": "10.0.0.1:1", "non_voter": 1}}]"#),
                "must be true or false",
            ),
            (
                &format!(r#"[{{"id": "{ONE}", "address": "10.0.0.1:1", "voter": true}}]"#),
                "\"voter\" is not known",
            ),
            (
                &format!("[{one}, {one}]"),
                "server 2: 00000000-0000-0000-0000-000000000001 is named twice",
            ),
            (&format!("[{many}]"), "names 65 servers"),
        ] {
            let error = refused(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    fn config(id: u128) -> lictor_node::Config {
        let mut config = lictor_node::Config::new(NodeId(id), "a", "127.0.0.1:8300".parse().unwrap(), id);
        config.expect = 1;
        config
    }

    /// A data directory of server 1, whose cluster is 1, 2 and 3, with an empty log behind that.
    fn member_of_three(dir: &Path) {
        use lictor_raft::{Boot, Entry, HardState, LogId, Payload, Sync, Term, WriteBatch, WriteId};
        let mut opened = open_stores(Some(dir)).unwrap();
        let Boot { boot, .. } = opened.boot.raft;
        let members = Configuration {
            voters: [1, 2, 3].map(NodeId).into(),
            outgoing: BTreeSet::new(),
            learners: BTreeSet::new(),
        };
        let entry = Entry {
            id: LogId {
                term: Term(1),
                index: lictor_machine::Index(1),
            },
            payload: Payload::Members(members),
        };
        let batch = WriteBatch {
            sync: Sync::Required,
            hard_state: Some(HardState {
                term: Term(1),
                vote: None,
                commit: lictor_machine::Index(0),
            }),
            append: vec![entry],
            ..WriteBatch::new(WriteId { boot, seq: 1 })
        };
        opened.log.write(&[batch]).unwrap();
        let mut notes = opened.boot.notes;
        notes.node = Some(NodeId(1));
        notes.cluster = Some(lictor_node::ClusterId(9));
        opened.log.write_notes(&notes).unwrap();
    }

    #[test]
    fn a_recovery_is_carried_out_once() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path();
        member_of_three(dir);
        let file = dir.join("raft").join(FILE);
        fs::write(
            &file,
            format!(r#"[{{"id": "{ONE}", "address": "10.0.0.1:8300"}}, {{"id": "{TWO}", "address": "10.0.0.2:8300"}}]"#),
        )
        .unwrap();
        let mut opened = open_stores(Some(dir)).unwrap();
        apply(dir, NodeId(1), &mut opened).unwrap();
        assert!(!file.exists() && file.with_file_name(APPLIED).exists());
        let last = opened.boot.raft.last_index;
        let node = Node::start(config(1), opened.boot, opened.stored, Now::at(Instant::ZERO)).unwrap();
        assert_eq!(node.raft_status().members.voters, [1, 2].map(NodeId).into());
        assert_eq!(node.notes().peers[0].address, "10.0.0.2:8300".parse().unwrap());
        drop((node, opened.log, opened.state));

        let mut again = open_stores(Some(dir)).unwrap();
        apply(dir, NodeId(1), &mut again).unwrap();
        assert_eq!(
            again.boot.raft.last_index, last,
            "nothing happens without the file"
        );
    }

    #[test]
    fn one_that_makes_no_sense_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path();
        member_of_three(dir);
        let file = dir.join("raft").join(FILE);
        for text in [
            format!(r#"[{{"id": "{TWO}", "address": "10.0.0.2:8300"}}]"#),
            format!(r#"[{{"id": "{ONE}", "address": "10.0.0.2:8300", "non_voter": true}}]"#),
            r#"["10.0.0.1:8300"]"#.to_owned(),
            " ".repeat(1 << 21),
        ] {
            fs::write(&file, &text).unwrap();
            let mut opened = open_stores(Some(dir)).unwrap();
            let before = opened.boot.raft.last_index;
            let refused = apply(dir, NodeId(1), &mut opened).unwrap_err();
            assert!(refused.to_string().contains("peers.json"), "{refused}");
            let after = opened.log.load(TAIL_BYTES).unwrap().raft.last_index;
            assert_eq!((after, fs::read_to_string(&file).unwrap()), (before, text));
        }
    }
}
