//! What filters look like, as a parsing expression grammar, and what is said of texts that do not look so.
//!
//! Clients know the errors of the parser that Consul's grammar was compiled with: the place that the parse came to, and everything that it
//! tried there. So whatever is tried is written down in a [`Log`], also what an alternative then made up for.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use winnow::Parser;
use winnow::combinator::{alt, opt, peek, preceded, repeat};
use winnow::error::EmptyError;
use winnow::stream::{LocatingSlice, Location as _, Stateful, Stream as _};
use winnow::token::{one_of, rest, take_till};

use super::literal::unquote;
use super::{Expression, Operator, Relation};

/// How deep groups and negations may be nested.
pub(super) const MAX_DEPTH: usize = 64;

/// A comparison as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// The names that lead to what is compared.
    pub(super) selector: Vec<String>,
    /// How.
    pub(super) operator: Operator,
    /// What with; empty for those that compare with nothing.
    pub(super) value: String,
}

/// Parses a filter. The error is a text for the client.
pub(super) fn parse(text: &str) -> Result<Expression<Match>, String> {
    let log = Log::default();
    let mut input = Input {
        input: LocatingSlice::new(text),
        state: &log,
    };
    let parsed = filter(&mut input);
    if log.too_deep.get() {
        return Err(format!("the filter is nested more than {MAX_DEPTH} levels deep"));
    }
    match parsed {
        Ok(expression) if log.errors.borrow().is_empty() => Ok(expression),
        Ok(_) | Err(EmptyError) => Err(log.report(text)),
    }
}

type Input<'i> = Stateful<LocatingSlice<&'i str>, &'i Log>;
type Parsed<T> = Result<T, EmptyError>;

/// What was tried, and what is wrong beyond that.
#[derive(Debug, Default)]
struct Log {
    /// The furthest place where something else was expected.
    furthest: Cell<usize>,
    /// What was expected there.
    expected: RefCell<BTreeSet<&'static str>>,
    /// Where something is wrong that only looks right, by which rule, and what.
    errors: RefCell<Vec<(usize, &'static str, &'static str)>>,
    depth: Cell<usize>,
    too_deep: Cell<bool>,
}

impl Log {
    fn expected(&self, at: usize, what: &'static str) {
        if at < self.furthest.get() {
            return;
        }
        let mut expected = self.expected.borrow_mut();
        if at > self.furthest.replace(at) {
            expected.clear();
        }
        expected.insert(what);
    }

    fn error(&self, at: usize, rule: &'static str, what: &'static str) -> EmptyError {
        let error = (at, rule, what);
        let mut errors = self.errors.borrow_mut();
        if !errors.contains(&error) {
            errors.push(error);
        }
        EmptyError
    }

    /// Everything that is wrong with `text`.
    fn report(&self, text: &str) -> String {
        let errors = self.errors.borrow();
        if errors.is_empty() {
            return format!("{}: {}", place(text, self.furthest.get()), self.expectation());
        }
        let lines: Vec<String> = errors
            .iter()
            .map(|(at, rule, what)| format!("{}: rule \"{rule}\": {what}", place(text, *at)))
            .collect();
        lines.join("\n")
    }

    fn expectation(&self) -> String {
        let expected = self.expected.borrow();
        let end = expected.contains(END).then_some(END);
        let others = expected.iter().copied().filter(|what| *what != END);
        let all: Vec<&str> = others.chain(end).collect();
        match all.split_last() {
            Some((last, [])) => format!("no match found, expected: {last}"),
            Some((last, others)) => format!("no match found, expected: {} or {last}", others.join(", ")),
            None => "no match found".to_owned(),
        }
    }
}

/// A place as line, column in characters, and offset in bytes. A line's end counts as column 0 of the next.
fn place(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let lines = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    if text[before.len()..].starts_with('\n') {
        format!("{}:0 ({at})", lines + 1)
    } else {
        format!("{lines}:{column} ({at})")
    }
}

/// How an expected end is shown.
const END: &str = "EOF";

/// `text`, which is shown with quotes around it.
fn word<'i>(mut text: &'static str, shown: &'static str) -> impl Parser<Input<'i>, (), EmptyError> {
    move |input: &mut Input<'i>| {
        let (at, log) = (input.current_token_start(), input.state);
        let parsed: Parsed<&str> = text.parse_next(input);
        parsed.map(|_| ()).inspect_err(|_| log.expected(at, shown))
    }
}

/// One character of a class.
fn class<'i>(is: fn(char) -> bool, shown: &'static str) -> impl Parser<Input<'i>, char, EmptyError> {
    move |input: &mut Input<'i>| {
        let (at, log) = (input.current_token_start(), input.state);
        let parsed: Parsed<char> = one_of(is).parse_next(input);
        parsed.inspect_err(|_| log.expected(at, shown))
    }
}

fn end(input: &mut Input<'_>) -> Parsed<()> {
    if input.eof_offset() == 0 {
        return Ok(());
    }
    input.state.expected(input.current_token_start(), END);
    Err(EmptyError)
}

fn space(input: &mut Input<'_>) -> Parsed<()> {
    let blank = || class(|c| matches!(c, ' ' | '\t' | '\r' | '\n'), r"[ \t\r\n]");
    repeat(1.., blank()).parse_next(input)
}

fn filter(input: &mut Input<'_>) -> Parsed<Expression<Match>> {
    opt(space).parse_next(input)?;
    let expression = any_of(input)?;
    opt(space).parse_next(input)?;
    end(input)?;
    Ok(expression)
}

fn any_of(input: &mut Input<'_>) -> Parsed<Expression<Match>> {
    let first = all_of(input)?;
    let mut all = vec![first];
    let others: Vec<_> =
        repeat(0.., preceded((space, word("or", "\"or\""), space), all_of)).parse_next(input)?;
    all.extend(others);
    Ok(single(all, Expression::Any))
}

fn all_of(input: &mut Input<'_>) -> Parsed<Expression<Match>> {
    let first = negated(input)?;
    let mut all = vec![first];
    let others: Vec<_> =
        repeat(0.., preceded((space, word("and", "\"and\""), space), negated)).parse_next(input)?;
    all.extend(others);
    Ok(single(all, Expression::All))
}

/// The only one of `all`, or all of them together.
fn single(
    mut all: Vec<Expression<Match>>,
    together: fn(Vec<Expression<Match>>) -> Expression<Match>,
) -> Expression<Match> {
    match all.pop() {
        Some(only) if all.is_empty() => only,
        Some(last) => {
            all.push(last);
            together(all)
        }
        None => together(all),
    }
}

fn negated(input: &mut Input<'_>) -> Parsed<Expression<Match>> {
    let not = preceded((word("not", "\"not\""), space), |input: &mut Input<'_>| {
        deeper(input, negated)
    });
    alt((not.map(|inner| Expression::Not(Box::new(inner))), group)).parse_next(input)
}

/// Parses something that is nested in itself.
fn deeper<'i, T>(input: &mut Input<'i>, what: impl Fn(&mut Input<'i>) -> Parsed<T>) -> Parsed<T> {
    let log = input.state;
    if log.too_deep.get() || log.depth.get() == MAX_DEPTH {
        log.too_deep.set(true);
        return Err(EmptyError);
    }
    log.depth.set(log.depth.get() + 1);
    let parsed = what(input);
    log.depth.set(log.depth.get() - 1);
    parsed
}

fn group(input: &mut Input<'_>) -> Parsed<Expression<Match>> {
    let start = input.checkpoint();
    let open = opt((word("(", "\"(\""), opt(space))).parse_next(input)?;
    let inner = match open {
        Some(_) => opt(|input: &mut Input<'_>| deeper(input, any_of)).parse_next(input)?,
        None => None,
    };
    let Some(inner) = inner else {
        input.reset(&start);
        return comparison(input).map(Expression::Match);
    };
    opt(space).parse_next(input)?;
    let at = input.current_token_start();
    match opt(word(")", "\")\"")).parse_next(input)? {
        Some(()) => Ok(inner),
        None => Err(input.state.error(at, "grouping", "Unmatched parentheses")),
    }
}

fn comparison(input: &mut Input<'_>) -> Parsed<Match> {
    alt((selector_and_value, selector_alone, value_in_selector)).parse_next(input)
}

fn selector_and_value(input: &mut Input<'_>) -> Parsed<Match> {
    let selector = selector(input)?;
    let operator = alt((
        (opt(space), word("==", "\"==\""), opt(space)).value(Operator::is(Relation::Equal)),
        (opt(space), word("!=", "\"!=\""), opt(space)).value(Operator::is_not(Relation::Equal)),
        (space, contains, space).value(Operator::is(Relation::In)),
        (space, not, space, contains, space).value(Operator::is_not(Relation::In)),
        (space, matches, space).value(Operator::is(Relation::Matches)),
        (space, not, space, matches, space).value(Operator::is_not(Relation::Matches)),
    ))
    .parse_next(input)?;
    let value = value(input)?;
    Ok(Match {
        selector,
        operator,
        value,
    })
}

fn selector_alone(input: &mut Input<'_>) -> Parsed<Match> {
    let selector = selector(input)?;
    let operator = alt((
        (space, is, space, empty).value(Operator::is(Relation::Empty)),
        (space, is, space, not, space, empty).value(Operator::is_not(Relation::Empty)),
    ))
    .parse_next(input)?;
    Ok(Match {
        selector,
        operator,
        value: String::new(),
    })
}

fn value_in_selector(input: &mut Input<'_>) -> Parsed<Match> {
    let value = value(input)?;
    let operator = alt((
        (space, within, space).value(Operator::is(Relation::In)),
        (space, not, space, within, space).value(Operator::is_not(Relation::In)),
    ))
    .parse_next(input)?;
    let at = input.current_token_start();
    let Some(selector) = opt(selector).parse_next(input)? else {
        return Err(input.state.error(at, "match", "Invalid selector"));
    };
    Ok(Match {
        selector,
        operator,
        value,
    })
}

fn contains(input: &mut Input<'_>) -> Parsed<()> {
    word("contains", "\"contains\"").parse_next(input)
}

fn matches(input: &mut Input<'_>) -> Parsed<()> {
    word("matches", "\"matches\"").parse_next(input)
}

fn within(input: &mut Input<'_>) -> Parsed<()> {
    word("in", "\"in\"").parse_next(input)
}

fn not(input: &mut Input<'_>) -> Parsed<()> {
    word("not", "\"not\"").parse_next(input)
}

fn is(input: &mut Input<'_>) -> Parsed<()> {
    word("is", "\"is\"").parse_next(input)
}

fn empty(input: &mut Input<'_>) -> Parsed<()> {
    word("empty", "\"empty\"").parse_next(input)
}

fn selector(input: &mut Input<'_>) -> Parsed<Vec<String>> {
    let first = identifier(input)?;
    let mut names = vec![first];
    let others: Vec<_> =
        repeat(0.., alt((preceded(word(".", "\".\""), identifier), index))).parse_next(input)?;
    names.extend(others);
    Ok(names)
}

fn identifier(input: &mut Input<'_>) -> Parsed<String> {
    let letter = class(|c| c.is_ascii_alphabetic(), "[a-zA-Z]");
    let others = class(|c| c.is_ascii_alphanumeric() || c == '_', "[a-zA-Z0-9_]");
    let all = (letter, repeat::<_, _, (), _, _>(0.., others)).take();
    all.map(str::to_owned).parse_next(input)
}

fn index(input: &mut Input<'_>) -> Parsed<String> {
    (word("[", "\"[\""), opt(space)).parse_next(input)?;
    let at = input.current_token_start();
    let Some(name) = opt(string).parse_next(input)? else {
        return Err(input.state.error(at, "index", "Invalid index"));
    };
    opt(space).parse_next(input)?;
    let at = input.current_token_start();
    match opt(word("]", "\"]\"")).parse_next(input)? {
        Some(()) => Ok(name),
        None => Err(input.state.error(at, "index", "Unclosed index expression")),
    }
}

fn value(input: &mut Input<'_>) -> Parsed<String> {
    alt((selector.map(|names| names.join(".")), number, string)).parse_next(input)
}

fn number(input: &mut Input<'_>) -> Parsed<String> {
    let digit = || class(|c| c.is_ascii_digit(), "[0-9]");
    let whole = alt((
        word("0", "\"0\""),
        (
            class(|c| matches!(c, '1'..='9'), "[1-9]"),
            repeat::<_, _, (), _, _>(0.., digit()),
        )
            .void(),
    ));
    let fraction = (word(".", "\".\""), repeat::<_, _, (), _, _>(1.., digit()));
    let all = (opt(word("-", "\"-\"")), whole, opt(fraction)).take();
    let text = all.map(str::to_owned).parse_next(input)?;
    let at = input.current_token_start();
    let behind: Parsed<()> = peek(alt((space, end, word(")", "\")\"")))).parse_next(input);
    match behind {
        Ok(()) => Ok(text),
        Err(EmptyError) => Err(input.state.error(at, "number", "Invalid number literal")),
    }
}

fn string(input: &mut Input<'_>) -> Parsed<String> {
    let start = input.current_token_start();
    let quote = alt((word("`", "\"`\"").value('`'), word("\"", "\"\\\"\"").value('"'))).parse_next(input)?;
    let inner: Parsed<&str> = take_till(0.., quote).parse_next(input);
    let inner = inner?;
    let closing: Parsed<char> = one_of(quote).parse_next(input);
    if closing.is_err() {
        let _: Parsed<&str> = rest.parse_next(input);
        let at = input.current_token_start();
        return Err(input.state.error(at, "string", "Unterminated string literal"));
    }
    if quote == '`' {
        return Ok(inner.replace('\r', ""));
    }
    // It looks right, so the parse goes on; but the filter is refused.
    Ok(unquote(inner).unwrap_or_else(|| {
        input.state.error(start, "string", "invalid syntax");
        String::new()
    }))
}
