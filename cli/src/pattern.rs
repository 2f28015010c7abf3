//! Regular expressions in the syntax of RE2, which Go's and Rust's libraries share; and what is wrong with one, in Go's words.

use regex::Regex;
use regex_syntax::ast::{ErrorKind, Span};

/// Which part of an expression Go quotes when it complains.
#[derive(Clone, Copy)]
enum Quoted {
    /// All of it.
    Whole,
    /// Where the error is.
    Place,
    /// The character where the error is.
    Character,
    /// From the error to the end.
    Rest,
    /// Nothing: the end is where the error is.
    End,
}

/// Go's words for what people get wrong.
const WORDS: &[(ErrorKind, &str, Quoted)] = &[
    (ErrorKind::GroupUnclosed, "missing closing )", Quoted::Whole),
    (ErrorKind::GroupUnopened, "unexpected )", Quoted::Whole),
    (ErrorKind::ClassUnclosed, "missing closing ]", Quoted::Rest),
    (
        ErrorKind::ClassRangeInvalid,
        "invalid character class range",
        Quoted::Place,
    ),
    (
        ErrorKind::ClassEscapeInvalid,
        "invalid escape sequence",
        Quoted::Place,
    ),
    (
        ErrorKind::EscapeUnrecognized,
        "invalid escape sequence",
        Quoted::Place,
    ),
    (
        ErrorKind::UnsupportedBackreference,
        "invalid escape sequence",
        Quoted::Place,
    ),
    (
        ErrorKind::EscapeUnexpectedEof,
        "trailing backslash at end of expression",
        Quoted::End,
    ),
    (
        ErrorKind::RepetitionCountInvalid,
        "invalid repeat count",
        Quoted::Place,
    ),
    (
        ErrorKind::RepetitionMissing,
        "missing argument to repetition operator",
        Quoted::Character,
    ),
    (
        ErrorKind::UnsupportedLookAround,
        "invalid or unsupported Perl syntax",
        Quoted::Place,
    ),
];

/// Compiles `text`. The error is one line: `error parsing regexp: ` and what is wrong.
pub(crate) fn compile(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| {
        let reason = match regex_syntax::parse(text) {
            Err(regex_syntax::Error::Parse(error)) => in_words(error.kind(), error.span(), text),
            Err(regex_syntax::Error::Translate(error)) => {
                format!("{}: `{}`", error.kind(), part(text, error.span()))
            }
            // Well written, and yet refused: it would grow too large.
            Ok(_) | Err(_) => error.to_string(),
        };
        format!("error parsing regexp: {reason}")
    })
}

fn in_words(kind: &ErrorKind, span: &Span, text: &str) -> String {
    let known = WORDS.iter().find(|(known, ..)| known == kind);
    let (what, quoted) = match known {
        Some((_, what, quoted)) => ((*what).to_owned(), *quoted),
        None => (kind.to_string(), Quoted::Place),
    };
    let quote = match quoted {
        Quoted::Whole => text,
        Quoted::Place => part(text, span),
        Quoted::Character => {
            let rest = text.get(span.start.offset..).unwrap_or(text);
            &rest[..rest.chars().next().map_or(0, char::len_utf8)]
        }
        Quoted::Rest => text.get(span.start.offset..).unwrap_or(text),
        Quoted::End => "",
    };
    format!("{what}: `{quote}`")
}

fn part<'t>(text: &'t str, span: &Span) -> &'t str {
    text.get(span.start.offset..span.end.offset).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_in_gos_words() {
        for (text, reason) in [
            ("(", "missing closing ): `(`"),
            ("(a", "missing closing ): `(a`"),
            (")", "unexpected ): `)`"),
            ("a)", "unexpected ): `a)`"),
            ("[a", "missing closing ]: `[a`"),
            ("((a)|[b", "missing closing ]: `[b`"),
            ("*", "missing argument to repetition operator: `*`"),
            ("+a", "missing argument to repetition operator: `+`"),
            ("a|*", "missing argument to repetition operator: `*`"),
            ("a{2,1}", "invalid repeat count: `{2,1}`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("a\\", "trailing backslash at end of expression: ``"),
            ("\\y", "invalid escape sequence: `\\y`"),
            ("\\1", "invalid escape sequence: `\\1`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ] {
            assert_eq!(
                compile(text).unwrap_err(),
                format!("error parsing regexp: {reason}")
            );
        }
    }

    #[test]
    fn errors_without_words_of_gos_quote_the_place() {
        for (text, quote) in [("\\p{Foo}", "`\\p{Foo}`"), ("(?q)", "`q`")] {
            let error = compile(text).unwrap_err();
            assert!(error.starts_with("error parsing regexp: "), "{error}");
            assert!(error.ends_with(quote), "{error}");
        }
        let large = compile("((a{1000}){1000}){1000}").unwrap_err();
        assert!(large.contains("size limit"), "{large}");
    }

    #[test]
    fn expressions_match_anywhere() {
        let found = compile("^a|ft$").unwrap();
        assert!(found.is_match("alive") && found.is_match("left") && !found.is_match("failed"));
    }
}
