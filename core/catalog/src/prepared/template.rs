//! Templates: prepared queries for many names, with parts that are filled in from the name that is asked for.

use std::fmt;

use regex::{Captures, Regex, RegexBuilder};

use super::def::{Failover, PreparedDef, PreparedService, TemplateDef};
use super::expression::{self, Expression, Piece, SyntaxError};
use crate::discovery::{Labels, Text};
use crate::quote::quote;

/// How many bytes a query may have once all parts are filled in.
pub const MAX_RENDERED_BYTES: usize = 64 << 10;

/// How much memory the program of a regular expression may take, in bytes. What it does takes time as this and the name's length.
const MAX_PROGRAM_BYTES: usize = 256 << 10;

/// The most groups of a regular expression: each costs memory for every step of its program.
pub const MAX_PATTERN_GROUPS: usize = 32;

/// How deep groups of a regular expression may be in each other.
const MAX_NESTING: u32 = 64;

/// Why a template is none. The texts are the API's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// There is no such kind.
    #[error("Bad Template.Type '{0}'")]
    Kind(Text),
    /// A text is not in the language.
    #[error("Bad format '{text}' in {place}: parse error: syntax error")]
    Format {
        /// The text.
        text: Text,
        /// Whose it is.
        place: String,
    },
    /// A text means nothing.
    #[error("Bad evaluation for '{text}' in {place}: {why}")]
    Evaluation {
        /// The text.
        text: Text,
        /// Whose it is.
        place: String,
        /// Why.
        why: String,
    },
    /// The regular expression is none, or would take too much.
    #[error("Bad Regexp: error parsing regexp: {why}")]
    Pattern {
        /// The expression.
        pattern: Text,
        /// Why, in one line. The API has words of its own for some.
        why: String,
    },
    /// Filled in, it has more than [`MAX_RENDERED_BYTES`].
    #[error("the query has more than {MAX_RENDERED_BYTES} bytes once it is filled in")]
    TooLarge,
}

/// A template that can be filled in.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pattern: Option<Regex>,
    /// Of each text, in the order in which [`each_text`] comes to them.
    texts: Vec<Vec<Part>>,
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Plain(String),
    /// `name.full`
    Full,
    /// `name.prefix`
    Prefix,
    /// `name.suffix`
    Suffix,
    /// `agent.segment`
    Segment,
    /// `match(N)`
    Group(usize),
    /// A part that is always empty: a group of a number that none has.
    Nothing,
}

/// What parts are filled in from.
struct Filling<'a> {
    /// The name that was asked for.
    full: &'a str,
    /// The template's.
    prefix: &'a str,
    groups: Option<Captures<'a>>,
}

impl Template {
    /// Makes a query ready to be filled in, and fills it in once to see whether that works.
    pub(super) fn compile(def: &PreparedDef) -> Result<Self, TemplateError> {
        if *def.template.kind != *TemplateDef::NAME_PREFIX_MATCH {
            return Err(TemplateError::Kind(def.template.kind.clone()));
        }
        let mut parsed = Vec::new();
        each_text(&def.service, |place, text| {
            let pieces = expression::parse(text).map_err(|SyntaxError| TemplateError::Format {
                text: text.clone(),
                place: place.to_string(),
            })?;
            parsed.push(pieces);
            Ok(text.clone())
        })?;
        let pattern = compile_pattern(&def.template.pattern)?;
        let own_name = Filling {
            full: &def.name,
            prefix: &def.name,
            groups: None,
        };
        let (mut texts, mut parsed) = (Vec::with_capacity(parsed.len()), parsed.into_iter());
        each_text(&def.service, |place, text| {
            let mut parts = Vec::new();
            let pieces = parsed.next().unwrap_or_default();
            let understood = understand(pieces, text, &own_name, &mut parts);
            understood.map_err(|why| TemplateError::Evaluation {
                text: text.clone(),
                place: place.to_string(),
                why,
            })?;
            texts.push(parts);
            Ok(text.clone())
        })?;
        let template = Self { pattern, texts };
        template.fill_in(def, &def.name)?;
        Ok(template)
    }

    /// The query for a name, `def` being what the template was made of.
    pub(super) fn fill_in(&self, def: &PreparedDef, name: &str) -> Result<PreparedDef, TemplateError> {
        let filling = Filling {
            full: name,
            prefix: &def.name,
            groups: self.pattern.as_ref().and_then(|pattern| pattern.captures(name)),
        };
        let (mut texts, mut bytes) = (self.texts.iter(), 0);
        let mut service = each_text(&def.service, |_, _| {
            let parts = texts.next().map(Vec::as_slice).unwrap_or_default();
            let filled = filling.put_in(parts);
            bytes += filled.len();
            if bytes > MAX_RENDERED_BYTES {
                return Err(TemplateError::TooLarge);
            }
            Ok(filled.into())
        })?;
        if def.template.remove_empty_tags
            && let Some(tags) = &mut service.tags
        {
            tags.retain(|tag| !tag.is_empty());
        }
        Ok(PreparedDef {
            service,
            ..def.clone()
        })
    }
}

fn compile_pattern(pattern: &Text) -> Result<Option<Regex>, TemplateError> {
    if pattern.is_empty() {
        return Ok(None);
    }
    let refused = |why| TemplateError::Pattern {
        pattern: pattern.clone(),
        why,
    };
    let compiled = RegexBuilder::new(pattern)
        .size_limit(MAX_PROGRAM_BYTES)
        .dfa_size_limit(MAX_PROGRAM_BYTES)
        .nest_limit(MAX_NESTING)
        .build();
    let compiled = compiled.map_err(|error| refused(error.to_string().replace('\n', " ")))?;
    // The first is the whole.
    let groups = compiled.captures_len().saturating_sub(1);
    if groups > MAX_PATTERN_GROUPS {
        return Err(refused(format!(
            "it has {groups} groups, and may have {MAX_PATTERN_GROUPS}"
        )));
    }
    Ok(Some(compiled))
}

impl Filling<'_> {
    /// The text that parts are.
    fn put_in(&self, parts: &[Part]) -> String {
        let mut text = String::new();
        for part in parts {
            text.push_str(match part {
                Part::Plain(plain) => plain,
                Part::Full => self.full,
                Part::Prefix => self.prefix,
                Part::Suffix => self.full.strip_prefix(self.prefix).unwrap_or(self.full),
                Part::Group(number) => {
                    let group = self.groups.as_ref().and_then(|groups| groups.get(*number));
                    group.map_or("", |group| group.as_str())
                }
                // There is but one, whose name is empty.
                Part::Segment | Part::Nothing => "",
            });
        }
        text
    }
}

/// Finds out what pieces of `whole` mean.
fn understand(
    pieces: Vec<Piece>,
    whole: &str,
    own_name: &Filling<'_>,
    parts: &mut Vec<Part>,
) -> Result<(), String> {
    for piece in pieces {
        match piece {
            Piece::Plain(text) => parts.push(Part::Plain(text)),
            Piece::Filled(expression, at) => {
                let here = |why: String| format!("{}: {why}", position(whole, at));
                match expression {
                    Expression::Int(number) => parts.push(Part::Plain(number.to_string())),
                    Expression::Text(pieces) => understand(pieces, whole, own_name, parts)?,
                    Expression::Variable(name) => parts.push(match &*name {
                        "name.full" => Part::Full,
                        "name.prefix" => Part::Prefix,
                        "name.suffix" => Part::Suffix,
                        "agent.segment" => Part::Segment,
                        _ => return Err(here(format!("unknown variable accessed: {name}"))),
                    }),
                    Expression::Call(name, mut arguments) => {
                        if name != "match" {
                            return Err(here(format!("unknown function called: {name}")));
                        }
                        let count = arguments.len();
                        let (Some(argument), 1) = (arguments.pop(), count) else {
                            return Err(here(format!("match: expected 1 arguments, got {count}")));
                        };
                        let number = group_number(argument, whole, at, own_name)?;
                        let number = usize::try_from(number);
                        parts.push(number.map_or(Part::Nothing, Part::Group));
                    }
                }
            }
        }
    }
    Ok(())
}

/// The number that `match` is called with. It must be the same for all names.
fn group_number(argument: Expression, whole: &str, at: usize, own_name: &Filling<'_>) -> Result<i64, String> {
    if let Expression::Int(number) = argument {
        return Ok(number);
    }
    let mut parts = Vec::new();
    understand(vec![Piece::Filled(argument, at)], whole, own_name, &mut parts)?;
    let text = own_name.put_in(&parts);
    let is_constant = parts.iter().all(|part| matches!(part, Part::Plain(_)));
    match text.parse() {
        Ok(number) if is_constant => Ok(number),
        Ok(_) | Err(_) => Err(format!(
            "__builtin_StringToInt: strconv.ParseInt: parsing {}: invalid syntax",
            quote(text.as_bytes())
        )),
    }
}

/// Line and column, from 1.
fn position(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{line}:{column}")
}

/// Whose text it is, as errors name it.
enum Place<'a> {
    Service,
    Datacenter(usize),
    IgnoredCheck(usize),
    Near,
    Tag(usize),
    NodeMeta(&'a str),
    ServiceMeta(&'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service => f.write_str("Service.Service"),
            Self::Datacenter(number) => write!(f, "Service.Failover.Datacenters[{number}]"),
            Self::IgnoredCheck(number) => write!(f, "Service.IgnoreCheckIDs[{number}]"),
            Self::Near => f.write_str("Service.Near"),
            Self::Tag(number) => write!(f, "Service.Tags[{number}]"),
            Self::NodeMeta(name) => write!(f, "Service.NodeMeta[{name}]"),
            Self::ServiceMeta(name) => write!(f, "Service.ServiceMeta[{name}]"),
        }
    }
}

/// The same with every text replaced that may have parts to be filled in, one after the other.
fn each_text(
    service: &PreparedService,
    mut replace: impl FnMut(Place<'_>, &Text) -> Result<Text, TemplateError>,
) -> Result<PreparedService, TemplateError> {
    let PreparedService {
        service: name,
        failover,
        only_passing,
        ignored_checks,
        near,
        tags,
        node_meta,
        service_meta,
        connect,
    } = service;
    Ok(PreparedService {
        service: replace(Place::Service, name)?,
        failover: Failover {
            nearest: failover.nearest,
            datacenters: each_item(failover.datacenters.as_deref(), Place::Datacenter, &mut replace)?,
        },
        only_passing: *only_passing,
        ignored_checks: each_item(ignored_checks.as_deref(), Place::IgnoredCheck, &mut replace)?,
        near: replace(Place::Near, near)?,
        tags: each_item(tags.as_deref(), Place::Tag, &mut replace)?,
        node_meta: each_value(node_meta.as_ref(), |name| Place::NodeMeta(name), &mut replace)?,
        service_meta: each_value(
            service_meta.as_ref(),
            |name| Place::ServiceMeta(name),
            &mut replace,
        )?,
        connect: *connect,
    })
}

fn each_item(
    items: Option<&[Text]>,
    place: fn(usize) -> Place<'static>,
    mut replace: impl FnMut(Place<'_>, &Text) -> Result<Text, TemplateError>,
) -> Result<Option<Vec<Text>>, TemplateError> {
    let Some(items) = items else { return Ok(None) };
    let replaced = items.iter().enumerate();
    let replaced: Result<_, _> = replaced
        .map(|(number, text)| replace(place(number), text))
        .collect();
    replaced.map(Some)
}

fn each_value(
    labels: Option<&Labels>,
    place: for<'a> fn(&'a str) -> Place<'a>,
    mut replace: impl FnMut(Place<'_>, &Text) -> Result<Text, TemplateError>,
) -> Result<Option<Labels>, TemplateError> {
    let Some(labels) = labels else { return Ok(None) };
    let replaced = labels.iter();
    let replaced: Result<_, _> = replaced
        .map(|(name, text)| Ok((name.clone(), replace(place(name), text)?)))
        .collect();
    replaced.map(Some)
}
