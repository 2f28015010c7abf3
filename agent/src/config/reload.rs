//! Reading the configuration again while the agent runs.

use lictor_local::Definitions;

use super::address::Host;
use super::error::{ConfigError, Warning};
use super::{Config, Flags, LogLevel, Settings, Watch};

/// Keys whose change takes effect at once; all others do at the next start.
const LIVE: &[&str] = &[
    "checks",
    "enable_local_script_checks",
    "log_level",
    "services",
    "watches",
];

/// Knows where the configuration came from, and what it said at the start.
#[derive(Clone)]
pub struct Reloader {
    flags: Flags,
    started_with: Settings,
}

/// What the sources say now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// What is to run on this agent from now on.
    pub definitions: Definitions,
    /// What to watch from now on.
    pub watches: Vec<Watch>,
    /// What to log from now on.
    pub log_level: LogLevel,
    /// Keys that are set otherwise than at the start, and that only a restart can change.
    pub needs_restart: Vec<&'static str>,
    /// What is allowed and unlikely to be meant.
    pub warnings: Vec<Warning>,
}

impl Reloader {
    /// As [`Config::load`], and keeps where it came from.
    pub fn load(flags: Flags) -> Result<(Self, Config, Vec<Warning>), ConfigError> {
        let mut warnings = Vec::new();
        let settings = flags.clone().merged(&mut warnings)?;
        let started_with = settings.clone();
        let config = build(settings, &flags, &mut warnings)?;
        let reloader = Self { flags, started_with };
        Ok((reloader, config, warnings))
    }

    /// Reads the same files again and validates everything as at a start, with the same flags on top. Changes nothing; takes as long as the
    /// disk does.
    pub fn reload(&self) -> Result<Reloaded, ConfigError> {
        let mut warnings = Vec::new();
        let settings = self.flags.clone().merged(&mut warnings)?;
        let needs_restart = self
            .started_with
            .changed_keys(&settings)
            .filter(|key| !LIVE.contains(key))
            .collect();
        let config = build(settings, &self.flags, &mut warnings)?;
        Ok(Reloaded {
            definitions: config.definitions,
            watches: config.watches,
            log_level: config.log.level,
            needs_restart,
            warnings,
        })
    }
}

fn build(settings: Settings, flags: &Flags, warnings: &mut Vec<Warning>) -> Result<Config, ConfigError> {
    super::build::build(settings, flags.dev, flags.runtime, &Host::discover(), warnings)
}

impl std::fmt::Debug for Reloader {
    /// Without the settings, some of which are secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader")
            .field("paths", &self.flags.config_paths)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn flags(path: &Path) -> Flags {
        let settings = Settings {
            data_dir: Some("/nonexistent/state".to_owned()),
            bind_addr: Some("127.0.0.1".to_owned()),
            node_name: Some("flag".to_owned()),
            ..Settings::default()
        };
        Flags {
            config_paths: vec![path.to_owned()],
            settings,
            ..Flags::default()
        }
    }

    #[test]
    fn what_changed_is_told_apart_by_whether_it_needs_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        fs::write(&path, r#"{"service": {"name": "web"}, "node_name": "file"}"#).unwrap();
        let (reloader, config, _) = Reloader::load(flags(dir.path())).unwrap();
        assert_eq!(config.definitions.services.len(), 1);
        let same = reloader.reload().unwrap();
        assert_eq!(same.definitions, config.definitions);
        assert_eq!((same.log_level, same.needs_restart.len()), (LogLevel::Info, 0));

        fs::write(
            &path,
            r#"{"services": [{"name": "web", "port": 80}], "check": {"name": "ok", "args": ["true"], "interval": "5s"},
                "enable_local_script_checks": true, "log_level": "warn", "datacenter": "dc2", "node_name": "file2",
                "dns_config": {"node_ttl": "5s"}, "retry_join": ["127.0.0.9"]}"#,
        )
        .unwrap();
        // A new file in a directory that was named counts too.
        fs::write(dir.path().join("b.json"), r#"{"service": {"name": "db"}}"#).unwrap();
        for _ in 0..2 {
            let new = reloader.reload().unwrap();
            let names: Vec<_> = new
                .definitions
                .services
                .iter()
                .map(|service| &*service.def.name)
                .collect();
            assert_eq!(names, ["web", "db"]);
            assert_eq!(new.definitions.services[0].def.port, 80);
            assert_eq!(&*new.definitions.checks[0].name, "ok");
            assert_eq!(new.log_level, LogLevel::Warn);
            assert_eq!(
                new.needs_restart,
                ["datacenter", "retry_join", "dns_config.node_ttl"]
            );
        }
        fs::remove_file(&path).unwrap();
        let less = reloader.reload().unwrap();
        assert_eq!(
            (less.definitions.services.len(), less.needs_restart.len()),
            (1, 0)
        );
    }

    #[test]
    fn watches_change_without_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("a.json", r#"{"watches": [{"type": "nodes", "args": ["a"]}]}"#);
        let (reloader, config, _) = Reloader::load(flags(dir.path())).unwrap();
        assert_eq!(config.watches.len(), 1);
        write("b.json", r#"{"watches": [{"type": "services", "args": ["b"]}]}"#);
        let new = reloader.reload().unwrap();
        assert_eq!((new.watches.len(), new.needs_restart.len()), (2, 0));
        assert_eq!(new.watches[0], config.watches[0]);
        write("b.json", r#"{"watches": [{"type": "services"}]}"#);
        assert_eq!(
            reloader.reload().unwrap_err().to_string(),
            "1 error occurred:\n\t* watches[1]: Must define a watch handler"
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_as_at_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        fs::write(&path, "{}").unwrap();
        let (reloader, _, _) = Reloader::load(flags(&path)).unwrap();
        fs::write(&path, "{").unwrap();
        let error = reloader.reload().unwrap_err().to_string();
        assert!(error.starts_with("failed to parse "), "{error}");
        fs::write(&path, r#"{"check": {"name": "x"}}"#).unwrap();
        assert_eq!(
            reloader.reload().unwrap_err().to_string(),
            "1 error occurred:\n\t* Failed to register check 'x': Check is not valid: TTL must be > 0 for TTL checks"
        );
        fs::remove_file(&path).unwrap();
        assert!(
            reloader
                .reload()
                .unwrap_err()
                .to_string()
                .contains("no such file or directory")
        );
        fs::write(&path, r#"{"check": {"name": "x", "ttl": "5s"}}"#).unwrap();
        assert_eq!(reloader.reload().unwrap().definitions.checks.len(), 1);
    }

    #[test]
    fn nobody_reads_secrets_in_debug_output() {
        let mut flags = flags(Path::new("/nonexistent"));
        flags.config_paths.clear();
        flags.settings.encrypt = Some("bGljdG9yLXBlcmYtaGFybmVzcy1rZXktMzItYnl0ZXM=".to_owned());
        let (reloader, _, _) = Reloader::load(flags).unwrap();
        assert!(!format!("{reloader:?}").contains("bGlj"));
    }
}
