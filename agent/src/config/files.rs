//! Configuration files and directories: which are read, in which order, and what is refused.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Warning};
use super::settings::Settings;
use super::{keys, text};

/// More than any configuration that a person wrote; less than what would hurt.
const MAX_FILE: u64 = 16 << 20;

/// Reads the named files and directories in order and hands the settings of each file to `each`.
///
/// A directory counts as its files in alphabetical order, without what lies deeper. Only `.json` is read; other files
/// are skipped with a warning, unless `format` says what they are. HCL is an error wherever it is met.
pub(super) fn read_all(
    paths: &[PathBuf],
    format: Option<&str>,
    warnings: &mut Vec<Warning>,
    mut each: impl FnMut(Settings),
) -> Result<(), ConfigError> {
    let all_json = match format {
        None | Some("") => false,
        Some("json") => true,
        Some("hcl") => {
            return Err(ConfigError::Format(
                "-config-format=hcl is not supported yet: HCL comes later; convert to JSON".to_owned(),
            ));
        }
        Some(_) => {
            return Err(ConfigError::Format(
                "-config-format must be either 'hcl' or 'json'".to_owned(),
            ));
        }
    };
    for path in paths {
        let about = fs::metadata(path).map_err(|error| read_error("Open", path, &error))?;
        let files = if about.is_dir() {
            directory(path)?
        } else {
            vec![path.clone()]
        };
        for file in files {
            let extension = file.extension().and_then(OsStr::to_str).unwrap_or_default();
            if !all_json && extension.eq_ignore_ascii_case("hcl") {
                return Err(ConfigError::Hcl { path: file });
            }
            if !all_json && !extension.eq_ignore_ascii_case("json") {
                warnings.push(Warning(format!(
                    "skipping file {}, extension must be .hcl or .json, or config format must be set",
                    file.display()
                )));
                continue;
            }
            let content = read_file(&file)?;
            each(keys::read(&content).map_err(|detail| ConfigError::Parse { path: file, detail })?);
        }
    }
    Ok(())
}

fn directory(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let fail = |error: &std::io::Error| read_error("Readdir", path, error);
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| fail(&error))? {
        let file = entry.map_err(|error| fail(&error))?.path();
        // Follows links: configuration is often linked from elsewhere.
        if fs::metadata(&file)
            .map_err(|error| read_error("Open", &file, &error))?
            .is_file()
        {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    let parse_error = |detail: String| ConfigError::Parse {
        path: path.to_owned(),
        detail,
    };
    let file = File::open(path).map_err(|error| read_error("Open", path, &error))?;
    let mut content = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut content)
        .map_err(|error| read_error("ReadFile", path, &error))?;
    if content.len() as u64 > MAX_FILE {
        return Err(parse_error(format!(
            "the file is larger than {} MiB",
            MAX_FILE >> 20
        )));
    }
    String::from_utf8(content).map_err(|error| parse_error(format!("not UTF-8 text: {error}")))
}

fn read_error(doing: &'static str, path: &Path, error: &std::io::Error) -> ConfigError {
    let call = if doing == "Open" { "open" } else { "read" };
    let detail = format!("{call} {}: {}", path.display(), text::system_error(error));
    ConfigError::Read {
        doing,
        path: path.to_owned(),
        detail,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Flags, RuntimeKind};
    use super::*;

    fn load(flags: Flags) -> Result<(Config, Vec<String>), String> {
        Config::load(flags)
            .map(|(config, warnings)| (config, warnings.iter().map(ToString::to_string).collect()))
            .map_err(|error| error.to_string())
    }

    fn flags(paths: &[&Path]) -> Flags {
        let settings = Settings {
            data_dir: Some("/nonexistent/state".to_owned()),
            bind_addr: Some("127.0.0.1".to_owned()),
            ..Settings::default()
        };
        Flags {
            config_paths: paths.iter().map(|path| path.to_path_buf()).collect(),
            settings,
            ..Flags::default()
        }
    }

    #[test]
    fn flags_win_over_files_and_lead_the_lists() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let late = file(
            "a.json",
            r#"{"node_name": "late", "datacenter": "late", "retry_join": ["late"], "ports": {"http": 1}, "http_config": {"response_headers": {"a": "late", "b": "late"}}}"#,
        );
        let early = file(
            "b.json",
            r#"{"node_name": "early", "datacenter": "early", "log_json": true, "retry_join": ["early"], "ports": {"server": 2}, "http_config": {"response_headers": {"a": "early", "c": "early"}}}"#,
        );
        let mut given = flags(&[&early, &late]);
        given.runtime = RuntimeKind::AsyncStd;
        given.settings.node_name = Some("flag".to_owned());
        given.settings.retry_join = vec!["flag".to_owned()];
        let (config, warnings) = load(given).unwrap();
        assert_eq!(config.runtime, RuntimeKind::AsyncStd);
        assert_eq!(config.node_name, "flag");
        assert_eq!(config.datacenter, "late");
        assert!(config.log.json);
        assert_eq!(config.http.listen, ["127.0.0.1:1".parse().unwrap()]);
        assert_eq!(config.bind, "127.0.0.1:2".parse().unwrap());
        let join: Vec<_> = config.join.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(join, ["flag:2", "early:2", "late:2"]);
        let headers: Vec<_> = config
            .http
            .response_headers
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(headers, ["a=late", "b=late", "c=early"]);
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn directories_are_read_in_order_and_not_below() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("b.json", r#"{"node_name": "b", "retry_join": ["b"]}"#);
        write("a.JSON", r#"{"node_name": "a", "retry_join": ["a"]}"#);
        write("notes.txt", "not configuration");
        fs::create_dir(dir.path().join("c.json")).unwrap();
        fs::write(dir.path().join("c.json").join("d.json"), r#"{"bogus": 1}"#).unwrap();
        let (config, warnings) = load(flags(&[dir.path()])).unwrap();
        assert_eq!(config.node_name, "b");
        let join: Vec<_> = config.join.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(join, ["a:8300", "b:8300"]);
        assert_eq!(
            warnings,
            [format!(
                "skipping file {}/notes.txt, extension must be .hcl or .json, or config format must be set",
                dir.path().display()
            )]
        );
        let empty = tempfile::tempdir().unwrap();
        assert!(load(flags(&[empty.path()])).is_ok());
    }

    #[test]
    fn formats() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lictor.conf");
        fs::write(&path, r#"{"node_name": "conf"}"#).unwrap();
        let with_format = |format: &str| {
            let mut given = flags(&[&path]);
            given.config_format = Some(format.to_owned());
            load(given)
        };
        assert_eq!(with_format("json").unwrap().0.node_name, "conf");
        assert_eq!(
            with_format("hcl").unwrap_err(),
            "-config-format=hcl is not supported yet: HCL comes later; convert to JSON"
        );
        assert_eq!(
            with_format("toml").unwrap_err(),
            "-config-format must be either 'hcl' or 'json'"
        );

        let hcl = dir.path().join("x.hcl");
        fs::write(&hcl, "node_name = \"x\"").unwrap();
        let expected = format!(
            "config: {} is HCL, which is not supported yet: HCL comes later; convert to JSON",
            hcl.display()
        );
        assert_eq!(load(flags(&[&hcl])).unwrap_err(), expected);
        assert_eq!(
            load(flags(&[dir.path()])).unwrap_err(),
            expected,
            "not skipped in a directory either"
        );
    }

    #[test]
    fn files_that_cannot_be_used() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let missing = at("none.json");
        assert_eq!(
            load(flags(&[&missing])).unwrap_err(),
            format!(
                "config: Open failed on {0}. open {0}: no such file or directory",
                missing.display()
            )
        );
        let bad = at("bad.json");
        fs::write(&bad, r#"{"bogus": 1}"#).unwrap();
        assert_eq!(
            load(flags(&[&bad])).unwrap_err(),
            format!(
                "failed to parse {}: 1 error occurred:\n\t* invalid config key bogus",
                bad.display()
            )
        );
        fs::write(&bad, [b'{', 0xff]).unwrap();
        assert!(load(flags(&[&bad])).unwrap_err().contains("not UTF-8 text"));
        File::create(&bad).unwrap().set_len((16 << 20) + 1).unwrap();
        assert!(
            load(flags(&[&bad]))
                .unwrap_err()
                .ends_with("the file is larger than 16 MiB")
        );
    }
}
