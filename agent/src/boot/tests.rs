//! Who a node is, and what it finds of itself.

use std::os::unix::fs::PermissionsExt as _;

use lictor_machine::{Instant, Now};
use lictor_node::Node;

use super::*;
use crate::config::{Flags, Settings};

const GIVEN: &str = "8c2a9c44-6c2b-4b0e-9d53-6c1f0f6f2a11";

/// A server's configuration with this id, and with its data under `dir`.
fn configured(dir: &Path, id: Option<&str>) -> Config {
    let settings = Settings {
        data_dir: Some(dir.join("deep/data").display().to_string()),
        node_id: id.map(str::to_owned),
        ..Settings::default()
    };
    let flags = Flags {
        dev: true,
        settings,
        ..Flags::default()
    };
    Config::load(flags).unwrap().0
}

fn identify(config: &Config) -> Result<NodeId, StartError> {
    node_id(config, data_dir(config)?, None)
}

fn id_file(config: &Config) -> PathBuf {
    config.data_dir.as_ref().unwrap().join("node-id")
}

#[test]
fn a_new_node_gets_an_id_and_keeps_it() {
    let root = tempfile::tempdir().unwrap();
    let config = configured(root.path(), None);
    let id = identify(&config).unwrap();
    let file = id_file(&config);
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{id}\n"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(config.data_dir.as_deref().unwrap()), 0o700);
    assert!(!file.with_extension("new").exists());
    assert_eq!(identify(&config).unwrap(), id);

    let other = tempfile::tempdir().unwrap();
    assert_ne!(identify(&configured(other.path(), None)).unwrap(), id);
}

/// A crash may have left a draft, of any content.
#[test]
fn a_draft_of_an_id_is_none() {
    let root = tempfile::tempdir().unwrap();
    let config = configured(root.path(), None);
    data_dir(&config).unwrap();
    let draft = id_file(&config).with_extension("new");
    fs::write(&draft, "x".repeat(100)).unwrap();
    let id = identify(&config).unwrap();
    assert_eq!(fs::read_to_string(id_file(&config)).unwrap(), format!("{id}\n"));
}

#[test]
fn a_configured_id_is_kept_and_no_other_is_taken() {
    let root = tempfile::tempdir().unwrap();
    let config = configured(root.path(), Some(GIVEN));
    let given: NodeId = GIVEN.parse().unwrap();
    assert_eq!(identify(&config).unwrap(), given);
    assert_eq!(identify(&config).unwrap(), given);
    assert_eq!(identify(&configured(root.path(), None)).unwrap(), given);

    let other = GIVEN.replace('8', "9");
    let refused = identify(&configured(root.path(), Some(&other))).unwrap_err();
    assert!(
        matches!(&refused, StartError::OtherNodeId { configured, kept, path }
            if configured.to_string() == other && *kept == given && *path == id_file(&config)),
        "{refused:?}"
    );
    assert_eq!(identify(&config).unwrap(), given, "nothing was changed");
}

#[test]
fn garbage_is_no_id_and_stays_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let config = configured(root.path(), None);
    data_dir(&config).unwrap();
    let file = id_file(&config);
    for garbage in ["", "\n", "not an id", &GIVEN[1..], &"f".repeat(10_000)] {
        fs::write(&file, garbage).unwrap();
        let refused = identify(&config).unwrap_err();
        assert!(
            matches!(&refused, StartError::NodeId { path, .. } if *path == file),
            "{refused:?}"
        );
        assert!(refused.to_string().len() < 1000, "{refused}");
        assert_eq!(fs::read_to_string(&file).unwrap(), garbage);
    }
    fs::write(&file, [0xff, 0xfe]).unwrap();
    let refused = identify(&config).unwrap_err();
    assert!(
        matches!(&refused, StartError::File { path, .. } if *path == file),
        "{refused:?}"
    );
    fs::write(&file, format!("  {GIVEN}\r\n")).unwrap();
    assert_eq!(identify(&config).unwrap().to_string(), GIVEN);
}

#[test]
fn without_a_data_directory_every_start_is_a_new_node() {
    let root = tempfile::tempdir().unwrap();
    let config = configured(root.path(), None);
    assert_ne!(
        node_id(&config, None, None).unwrap(),
        node_id(&config, None, None).unwrap()
    );
    let config = configured(root.path(), Some(GIVEN));
    assert_eq!(node_id(&config, None, None).unwrap().to_string(), GIVEN);
}

#[test]
fn stores_are_opened_and_refuse_another_node() {
    let root = tempfile::tempdir().unwrap();
    let config = configured(root.path(), None);
    let dir = data_dir(&config).unwrap();
    let start = |id: NodeId| -> Result<u64, StartError> {
        let Opened {
            mut log,
            boot,
            stored,
            ..
        } = open_stores(dir)?;
        let count = boot.raft.boot;
        let config = lictor_node::Config::new(id, "a", config.advertise, 1);
        let node = Node::start(config, boot, stored, Now::at(Instant::ZERO))?;
        log.write_notes(node.notes())?;
        Ok(count)
    };
    assert_eq!(start(NodeId(1)).unwrap(), 1);
    assert_eq!(start(NodeId(1)).unwrap(), 2);
    let refused = start(NodeId(2)).unwrap_err();
    assert!(
        matches!(
            refused,
            StartError::Node(lictor_node::StartError::OtherNode {
                owner: NodeId(1),
                this: NodeId(2)
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn a_lost_id_is_restored_from_the_stores() {
    let root = tempfile::tempdir().unwrap();
    let config = configured(root.path(), None);
    let id = identify(&config).unwrap();
    fs::remove_file(id_file(&config)).unwrap();
    let dir = data_dir(&config).unwrap();
    assert_eq!(node_id(&config, dir, Some(id)).unwrap(), id);
    assert_eq!(fs::read_to_string(id_file(&config)).unwrap(), format!("{id}\n"));

    fs::remove_file(id_file(&config)).unwrap();
    let other = configured(root.path(), Some(GIVEN));
    let refused = node_id(&other, dir, Some(id)).unwrap_err();
    assert!(
        matches!(&refused, StartError::OtherNodeId { kept, path, .. } if *kept == id && path.ends_with("raft")),
        "{refused:?}"
    );
    assert!(!id_file(&config).exists(), "nothing was changed");
}

/// As for `nobody`, or in a container: there is no home, or none that can be written.
#[test]
fn an_agent_for_development_needs_no_home() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("file"), "").unwrap();
    let nowhere = root.path().join("file/authority");
    user_authority(true, Some(nowhere.clone())).unwrap();
    user_authority(true, None).unwrap();
    let error = user_authority(false, Some(nowhere.clone()))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&nowhere.display().to_string())
            && error.contains("-encrypt")
            && error.contains("tls.defaults"),
        "{error}"
    );
    let kept = root.path().join("kept");
    let first = user_authority(false, Some(kept.clone())).unwrap();
    let again = user_authority(true, Some(kept.clone())).unwrap();
    assert_eq!(first.fingerprint().unwrap(), again.fingerprint().unwrap());
    // What is there and cannot be trusted is no reason to go on with something else.
    for entry in fs::read_dir(&kept).unwrap() {
        fs::set_permissions(entry.unwrap().path(), fs::Permissions::from_mode(0o644)).unwrap();
    }
    assert!(matches!(
        user_authority(true, Some(kept)),
        Err(StartError::Trust(TrustError::Exposed { .. }))
    ));
}
