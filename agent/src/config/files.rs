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
