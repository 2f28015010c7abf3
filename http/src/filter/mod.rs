//! The language of `?filter=`, which says what of a list a client wants: comparisons of what selectors name with values, combined by
//! `and`, `or`, `not` and parentheses.
//!
//! What can be filtered is [`Selectable`]. A [`Filter`] is parsed and checked as a whole before anything is asked, so a wrong one fails
//! whatever there is to filter. Size, depth and regular expressions are bounded.

mod grammar;
mod literal;

use std::borrow::Cow;

use lictor_catalog::{Labels, ServiceAddress, Text, quote};
use regex::Regex;

use self::grammar::Match;
pub(crate) use self::literal::parse_bool;
use self::literal::parse_int;
use crate::event::regex_error;
use crate::event_log::compile;

/// How many bytes a filter may have.
pub const MAX_FILTER_BYTES: usize = 8 << 10;

/// How many regular expressions a filter may have.
pub const MAX_FILTER_PATTERNS: usize = 16;

/// Something that filters choose from.
pub trait Selectable {
    /// What selectors can begin with.
    const FIELDS: &'static [Field];

    /// What a path leads to; it fits [`Self::FIELDS`].
    fn value<'a>(&'a self, path: &[Step]) -> Value<'a>;
}

/// What one name in a selector means.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The name, in its letter case.
    pub name: &'static str,
    /// What is there.
    pub shape: Shape,
}

/// What selectors lead to.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// A text.
    Text,
    /// A whole number.
    Number,
    /// A truth value.
    Bool,
    /// Several texts.
    Texts,
    /// Texts by name.
    Labels,
    /// Objects by name.
    Map(&'static [Field]),
    /// An object.
    Object(&'static [Field]),
    /// Several objects: what is said of a field of theirs is said of any of them.
    Objects(&'static [Field]),
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into a field.
    Field(&'static str),
    /// To the value of a name.
    Key(String),
}

/// What a path leads to.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// A whole number.
    Number(i64),
    /// A truth value.
    Bool(bool),
    /// Several texts.
    Texts(&'a [Text]),
    /// Texts by name.
    Labels(&'a Labels),
    /// Addresses by name.
    Addresses(&'a Labels<ServiceAddress>),
    /// So many objects.
    Count(usize),
    /// That of a field of several objects, or at several places.
    AnyOf(Vec<Value<'a>>),
    /// Nothing: there is no such name.
    Absent,
}

impl<'a> Value<'a> {
    /// A text.
    pub const fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// What is there under a name.
    pub fn label(labels: &'a Labels, name: &str) -> Self {
        labels.get(name).map_or(Self::Absent, |value| Self::text(value))
    }
}

/// Shorthand for tables of fields.
pub(crate) const fn field(name: &'static str, shape: Shape) -> Field {
    Field { name, shape }
}

/// Why a text is not a filter, in the words that clients know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Failed to create boolean expression evaluator: {0}")]
pub struct FilterError(String);

/// A filter for one kind of things.
#[derive(Clone, Debug)]
pub struct Filter(Expression<Test>);

impl Filter {
    /// Parses and checks a filter on things of type `T`.
    pub fn parse<T: Selectable>(text: &str) -> Result<Self, FilterError> {
        if text.len() > MAX_FILTER_BYTES {
            let error = format!(
                "the filter has {} bytes, and may have {MAX_FILTER_BYTES}",
                text.len()
            );
            return Err(FilterError(error));
        }
        let expression = grammar::parse(text).map_err(FilterError)?;
        let mut patterns = 0;
        let expression = expression
            .try_map(&mut |written| Test::new(written, T::FIELDS, &mut patterns))
            .map_err(FilterError)?;
        Ok(Self(expression))
    }

    /// Whether `item` is wanted. It must be of the type that the filter was parsed for.
    pub fn matches<T: Selectable>(&self, item: &T) -> bool {
        self.0.holds(&|test| test.holds(&item.value(&test.path)))
    }
}

/// Comparisons, combined. How deep it is nested is bounded, so recursion is safe.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression<M> {
    All(Vec<Expression<M>>),
    Any(Vec<Expression<M>>),
    Not(Box<Expression<M>>),
    Match(M),
}

impl<M> Expression<M> {
    fn holds(&self, test: &impl Fn(&M) -> bool) -> bool {
        match self {
            Self::All(all) => all.iter().all(|one| one.holds(test)),
            Self::Any(all) => all.iter().any(|one| one.holds(test)),
            Self::Not(inner) => !inner.holds(test),
            Self::Match(what) => test(what),
        }
    }

    fn try_map<N>(self, map: &mut impl FnMut(M) -> Result<N, String>) -> Result<Expression<N>, String> {
        let mut each = |all: Vec<Self>| -> Result<Vec<_>, String> {
            all.into_iter().map(|one| one.try_map(map)).collect()
        };
        match self {
            Self::All(all) => each(all).map(Expression::All),
            Self::Any(all) => each(all).map(Expression::Any),
            Self::Not(inner) => Ok(Expression::Not(Box::new(inner.try_map(map)?))),
            Self::Match(what) => map(what).map(Expression::Match),
        }
    }
}

/// How something is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Operator {
    relation: Relation,
    negated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Equal,
    In,
    Empty,
    Matches,
}

impl Operator {
    const fn is(relation: Relation) -> Self {
        Self {
            relation,
            negated: false,
        }
    }

    const fn is_not(relation: Relation) -> Self {
        Self {
            relation,
            negated: true,
        }
    }

    /// As errors name it.
    const fn name(self) -> &'static str {
        match (self.relation, self.negated) {
            (Relation::Equal, false) => "Equal",
            (Relation::Equal, true) => "Not Equal",
            (Relation::In, false) => "In",
            (Relation::In, true) => "Not In",
            (Relation::Empty, false) => "Is Empty",
            (Relation::Empty, true) => "Is Not Empty",
            (Relation::Matches, false) => "Matches",
            (Relation::Matches, true) => "Not Matches",
        }
    }
}

/// A comparison that makes sense.
#[derive(Clone, Debug)]
struct Test {
    path: Vec<Step>,
    operator: Operator,
    operand: Operand,
}

/// What to compare with.
#[derive(Clone, Debug)]
enum Operand {
    Nothing,
    Text(String),
    Number(i64),
    Bool(bool),
    Pattern(Regex),
}

impl Test {
    fn new(written: Match, fields: &'static [Field], patterns: &mut usize) -> Result<Self, String> {
        let Match {
            selector,
            operator,
            value,
        } = written;
        let (path, shape) = resolve(&selector, fields)?;
        let named = || quote(selector.join(".").as_bytes());
        let supported = match shape {
            Shape::Text => operator.relation != Relation::Empty,
            Shape::Number | Shape::Bool => operator.relation == Relation::Equal,
            Shape::Texts | Shape::Labels | Shape::Map(_) => {
                matches!(operator.relation, Relation::In | Relation::Empty)
            }
            Shape::Objects(_) => operator.relation == Relation::Empty,
            Shape::Object(_) => false,
        };
        if !supported {
            return Err(format!(
                "Invalid match operator {} for selector {}",
                quote(operator.name().as_bytes()),
                named()
            ));
        }
        let coerced = |why: String| {
            let value = quote(value.as_bytes());
            format!("Failed to coerce value {value} for selector {}: {why}", named())
        };
        let operand = match (operator.relation, shape) {
            (Relation::Empty, _) => Operand::Nothing,
            (Relation::Matches, _) => Operand::Pattern(pattern(&value, patterns)?),
            (Relation::Equal, Shape::Number) => Operand::Number(parse_int(&value).map_err(coerced)?),
            (Relation::Equal, Shape::Bool) => Operand::Bool(parse_bool(&value).map_err(coerced)?),
            (Relation::Equal | Relation::In, _) => Operand::Text(value),
        };
        Ok(Self {
            path,
            operator,
            operand,
        })
    }

    fn holds(&self, value: &Value<'_>) -> bool {
        let found = match value {
            Value::AnyOf(values) => return values.iter().any(|value| self.holds(value)),
            Value::Absent => self.operator.relation == Relation::Empty,
            Value::Text(text) => match &self.operand {
                Operand::Text(other) if self.operator.relation == Relation::Equal => **text == **other,
                Operand::Text(part) => text.contains(&**part),
                Operand::Pattern(pattern) => pattern.is_match(text),
                Operand::Nothing | Operand::Number(_) | Operand::Bool(_) => false,
            },
            Value::Number(number) => matches!(self.operand, Operand::Number(other) if other == *number),
            Value::Bool(truth) => matches!(self.operand, Operand::Bool(other) if other == *truth),
            Value::Texts(texts) => {
                self.among(texts.is_empty(), |name| texts.iter().any(|text| **text == *name))
            }
            Value::Labels(labels) => self.among(labels.is_empty(), |name| labels.get(name).is_some()),
            Value::Addresses(labels) => self.among(labels.is_empty(), |name| labels.get(name).is_some()),
            Value::Count(count) => self.among(*count == 0, |_| false),
        };
        found != self.operator.negated
    }

    fn among(&self, empty: bool, has: impl FnOnce(&str) -> bool) -> bool {
        match &self.operand {
            Operand::Nothing => empty,
            Operand::Text(name) => has(name),
            Operand::Number(_) | Operand::Bool(_) | Operand::Pattern(_) => false,
        }
    }
}

/// The path that a selector names, and what is there.
fn resolve(selector: &[String], fields: &'static [Field]) -> Result<(Vec<Step>, Shape), String> {
    let mut shape = Shape::Object(fields);
    let mut path = Vec::with_capacity(selector.len());
    for (at, name) in selector.iter().enumerate() {
        let next = match shape {
            Shape::Object(fields) | Shape::Objects(fields) => fields
                .iter()
                .find(|field| field.name == name)
                .map(|field| (Step::Field(field.name), field.shape)),
            Shape::Labels => Some((Step::Key(name.clone()), Shape::Text)),
            Shape::Map(fields) => Some((Step::Key(name.clone()), Shape::Object(fields))),
            Shape::Text | Shape::Number | Shape::Bool | Shape::Texts => None,
        };
        let Some((step, inner)) = next else {
            let wrong = selector[..=at].join(".");
            return Err(format!("Selector {} is not valid", quote(wrong.as_bytes())));
        };
        path.push(step);
        shape = inner;
    }
    Ok((path, shape))
}

fn pattern(text: &str, patterns: &mut usize) -> Result<Regex, String> {
    *patterns += 1;
    if *patterns > MAX_FILTER_PATTERNS {
        return Err(format!(
            "the filter has more than {MAX_FILTER_PATTERNS} regular expressions"
        ));
    }
    compile(text).map_err(|_| {
        format!(
            "Failed to compile regular expression {}: error parsing regexp: {}",
            quote(text.as_bytes()),
            regex_error(text)
        )
    })
}

#[cfg(test)]
mod tests;
