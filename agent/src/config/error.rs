//! What can be wrong with a configuration.

use std::fmt;
use std::path::PathBuf;

/// Why a configuration cannot be used. Nothing has been started or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A file or directory that was named cannot be read.
    #[error("config: {doing} failed on {path}. {detail}", path = path.display())]
    Read {
        /// What was tried: `Open` or `ReadFile`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// The file is in a format that is not understood yet.
    #[error("config: {path} is HCL, which is not supported yet: HCL comes later; convert to JSON", path = path.display())]
    Hcl {
        /// The file.
        path: PathBuf,
    },
    /// `-config-format` is neither `hcl` nor `json`, or is `hcl`.
    #[error("{0}")]
    Format(String),
    /// A file's text is not a configuration.
    #[error("failed to parse {path}: {detail}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Every problem found, as one text.
        detail: String,
    },
    /// A value is out of its range, or values contradict each other. One problem.
    #[error("{0}")]
    Invalid(String),
    /// Values that cannot be understood; all that were found.
    #[error("{}", Problems(.0))]
    Values(Vec<String>),
}

/// Something that is allowed and unlikely to be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Shows a list of problems as `2 errors occurred:` and an indented bullet each.
pub(super) struct Problems<'a>(pub(super) &'a [String]);

impl fmt::Display for Problems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.0.len() == 1 { "error" } else { "errors" };
        write!(f, "{} {noun} occurred:", self.0.len())?;
        for problem in self.0 {
            write!(f, "\n\t* {problem}")?;
        }
        Ok(())
    }
}
