//! Command-line flags in the syntax of Go's `flag` package, which Consul's users and scripts write: `-name value`,
//! `-name=value`, one dash or two, flags before operands.

use std::time::Duration;

use lictor_agent::config::{DurationError, parse_duration};

use crate::console::Failure;

/// A flag that a command understands.
pub(crate) struct Flag {
    /// Its name without dashes.
    pub(crate) name: &'static str,
    /// What it takes.
    pub(crate) takes: Takes,
    /// What it does, for the help.
    pub(crate) help: &'static str,
}

/// What a flag takes.
#[derive(Clone, Copy)]
pub(crate) enum Takes {
    /// Nothing, or `=true` or `=false`.
    Nothing,
    /// A text; how the help calls it.
    Text(&'static str),
    /// An integer.
    Int,
    /// An integer that is not negative.
    Uint,
}

/// What a flag was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// For [`Takes::Nothing`].
    Switch(bool),
    /// For [`Takes::Text`].
    Text(String),
    /// For [`Takes::Int`].
    Int(i64),
    /// For [`Takes::Uint`].
    Uint(u64),
}

/// A parsed command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Args {
    flags: Vec<(&'static str, Given)>,
    /// Everything from the first word that is not a flag.
    pub(crate) operands: Vec<String>,
}

impl Args {
    /// Parses `argv`. `not_yet` are names to be refused as known but not built. The error is one line.
    pub(crate) fn parse<'f>(
        flags: impl Iterator<Item = &'f Flag> + Clone,
        not_yet: &[&str],
        argv: &[String],
    ) -> Result<Self, String> {
        let mut args = Self::default();
        let mut words = argv.iter();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
                args.operands.push(word.clone());
                break;
            };
            if flag == "-" {
                break;
            }
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            if flag.starts_with(['-', '=']) {
                return Err(format!("bad flag syntax: {word}"));
            }
            let (name, mut value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag, None),
            };
            let Some(known) = flags.clone().find(|known| known.name == name) else {
                return Err(if not_yet.contains(&name) {
                    format!("flag -{name} is not supported yet")
                } else {
                    format!("flag provided but not defined: -{name}")
                });
            };
            if value.is_none() && !matches!(known.takes, Takes::Nothing) {
                value = words.next().map(String::as_str);
                if value.is_none() {
                    return Err(format!("flag needs an argument: -{name}"));
                }
            }
            args.flags
                .push((known.name, known.takes.read(name, value.unwrap_or("true"))?));
        }
        args.operands.extend(words.cloned());
        Ok(args)
    }

    /// All flags in the order given, with repetitions.
    pub(crate) fn flags(&self) -> impl Iterator<Item = (&'static str, &Given)> {
        self.flags.iter().map(|(name, given)| (*name, given))
    }

    /// Whether a switch is on; the last mention counts.
    pub(crate) fn switch(&self, name: &str) -> bool {
        self.switched(name) == Some(true)
    }

    /// What the last mention of a switch says; `None` if there is none.
    pub(crate) fn switched(&self, name: &str) -> Option<bool> {
        match self.last(name)? {
            Given::Switch(on) => Some(*on),
            Given::Text(_) | Given::Int(_) | Given::Uint(_) => None,
        }
    }

    /// The last text given for a flag.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.last(name)? {
            Given::Text(text) => Some(text),
            Given::Switch(_) | Given::Int(_) | Given::Uint(_) => None,
        }
    }

    /// All texts given for a flag.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        let all = self.flags().filter(|(known, _)| *known == name);
        all.filter_map(|(_, given)| match given {
            Given::Text(text) => Some(text.clone()),
            Given::Switch(_) | Given::Int(_) | Given::Uint(_) => None,
        })
        .collect()
    }

    /// All keys and values given for a flag as `key=value`.
    pub(crate) fn pairs(&self, name: &str) -> Result<Vec<(String, String)>, Failure> {
        let texts = self.texts(name).into_iter();
        let pairs = texts.map(|text| match text.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(Failure::misuse(format!(
                "invalid value {text:?} for flag -{name}: Missing \"=\" value in argument: {text}"
            ))),
        });
        pairs.collect()
    }

    /// The last duration given for a flag that takes a text. `negative` is what is said of one below zero, if that has words of its own.
    pub(crate) fn duration(&self, name: &str, negative: Option<&str>) -> Result<Option<Duration>, Failure> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        parse_duration(text).map(Some).map_err(|error| {
            if let (DurationError::Negative(_), Some(words)) = (&error, negative) {
                return Failure::new(words);
            }
            Failure::misuse(format!("invalid value {text:?} for flag -{name}: {error}"))
        })
    }

    /// The last integer given for a flag.
    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        match self.last(name)? {
            Given::Int(value) => Some(*value),
            Given::Switch(_) | Given::Text(_) | Given::Uint(_) => None,
        }
    }

    /// The last unsigned integer given for a flag.
    pub(crate) fn uint(&self, name: &str) -> Option<u64> {
        match self.last(name)? {
            Given::Uint(value) => Some(*value),
            Given::Switch(_) | Given::Text(_) | Given::Int(_) => None,
        }
    }

    fn last(&self, name: &str) -> Option<&Given> {
        self.flags
            .iter()
            .rev()
            .find(|(known, _)| *known == name)
            .map(|(_, given)| given)
    }
}

impl Takes {
    fn read(self, name: &str, value: &str) -> Result<Given, String> {
        let bad = || format!("invalid value {value:?} for flag -{name}: parse error");
        match self {
            Self::Nothing => parse_bool(value)
                .map(Given::Switch)
                .ok_or_else(|| format!("invalid boolean value {value:?} for -{name}: parse error")),
            Self::Text(_) => Ok(Given::Text(value.to_owned())),
            Self::Int => value.parse().map(Given::Int).map_err(|_| bad()),
            Self::Uint => parse_uint(value).map(Given::Uint).ok_or_else(bad),
        }
    }
}

/// Reads a truth value as Go does.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Reads decimal digits, or others behind `0x`, `0o`, `0b` or a leading `0` (octal).
fn parse_uint(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (&lower[..], 10),
    };
    // from_str_radix would take a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        Flag {
            name: "server",
            takes: Takes::Nothing,
            help: "",
        },
        Flag {
            name: "node",
            takes: Takes::Text("name"),
            help: "",
        },
        Flag {
            name: "http-port",
            takes: Takes::Int,
            help: "",
        },
        Flag {
            name: "flags",
            takes: Takes::Uint,
            help: "",
        },
    ];

    fn parse(words: &[&str]) -> Result<Args, String> {
        let argv: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        Args::parse(FLAGS.iter(), &["ui"], &argv)
    }

    #[test]
    fn both_dashes_and_both_forms() {
        for words in [
            &["-node", "a"][..],
            &["--node", "a"],
            &["-node=a"],
            &["--node=a"],
            &["-node", "b", "-node", "a"],
        ] {
            let args = parse(words).unwrap();
            assert_eq!(args.text("node"), Some("a"), "{words:?}");
            assert!(args.operands.is_empty());
        }
        assert_eq!(parse(&["-node="]).unwrap().text("node"), Some(""));
        assert_eq!(parse(&["-node=a=b"]).unwrap().text("node"), Some("a=b"));
        assert_eq!(
            parse(&["-node", "-server"]).unwrap().text("node"),
            Some("-server"),
            "a value may look like a flag"
        );
        assert_eq!(
            parse(&["-node", "a", "-node", "b"]).unwrap().texts("node"),
            ["a", "b"]
        );
        assert_eq!(parse(&[]).unwrap().text("node"), None);
    }

    #[test]
    fn switches_take_no_second_word() {
        for (word, on) in [
            ("-server", true),
            ("--server", true),
            ("-server=true", true),
            ("-server=1", true),
            ("-server=F", false),
        ] {
            assert_eq!(parse(&[word]).unwrap().switch("server"), on, "{word}");
        }
        let args = parse(&["-server", "false"]).unwrap();
        assert!(args.switch("server"));
        assert_eq!(args.operands, ["false"]);
        assert!(!parse(&["-server", "-server=false"]).unwrap().switch("server"));
        assert!(!parse(&[]).unwrap().switch("server"));
    }

    #[test]
    fn numbers() {
        assert_eq!(parse(&["-http-port", "-1"]).unwrap().int("http-port"), Some(-1));
        for (text, value) in [
            ("7", 7),
            ("0", 0),
            ("0x10", 16),
            ("0b11", 3),
            ("0o17", 15),
            ("017", 15),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(
                parse(&["-flags", text]).unwrap().uint("flags"),
                Some(value),
                "{text}"
            );
        }
    }

    #[test]
    fn operands_end_the_flags() {
        assert_eq!(parse(&["a", "-node", "b"]).unwrap().operands, ["a", "-node", "b"]);
        assert_eq!(parse(&["-"]).unwrap().operands, ["-"]);
        assert_eq!(parse(&["--", "-node", "b"]).unwrap().operands, ["-node", "b"]);
        assert_eq!(parse(&["-server", "--", "--"]).unwrap().operands, ["--"]);
    }

    #[test]
    fn errors() {
        for (words, message) in [
            (&["-bogus"][..], "flag provided but not defined: -bogus"),
            (&["--bogus=1"], "flag provided but not defined: -bogus"),
            (&["-ui"], "flag -ui is not supported yet"),
            (&["-ui=true"], "flag -ui is not supported yet"),
            (&["-node"], "flag needs an argument: -node"),
            (
                &["-server=x"],
                "invalid boolean value \"x\" for -server: parse error",
            ),
            (
                &["-http-port", "1.5"],
                "invalid value \"1.5\" for flag -http-port: parse error",
            ),
            (
                &["-flags", "x"],
                "invalid value \"x\" for flag -flags: parse error",
            ),
            (
                &["-flags=-1"],
                "invalid value \"-1\" for flag -flags: parse error",
            ),
            (
                &["-flags=+1"],
                "invalid value \"+1\" for flag -flags: parse error",
            ),
            (
                &["-flags=0x"],
                "invalid value \"0x\" for flag -flags: parse error",
            ),
            (
                &["-flags", "18446744073709551616"],
                "invalid value \"18446744073709551616\" for flag -flags: parse error",
            ),
            (&["---node"], "bad flag syntax: ---node"),
            (&["-=x"], "bad flag syntax: -=x"),
        ] {
            assert_eq!(parse(words), Err(message.to_owned()));
        }
    }
}
