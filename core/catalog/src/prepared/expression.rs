//! The language of what templates fill in: texts with `${...}` in them.
//!
//! Within the braces stands a variable, a call of a function, a number, or a text between double quotes, which may itself have `${...}`
//! in it. `$${` is a `${` that means nothing. This is the part of the API's language that has a use here: it also knows sums and
//! conditions.

/// How deep texts may be in each other.
const MAX_DEPTH: usize = 8;

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// As it is.
    Plain(String),
    /// What is between braces, and where it begins in the whole text, in bytes.
    Filled(Expression, usize),
}

/// What is between braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    /// A variable of this name.
    Variable(String),
    /// A function of this name, and what it is called with.
    Call(String, Vec<Expression>),
    /// A whole number.
    Int(i64),
    /// A text.
    Text(Vec<Piece>),
}

/// A text that is not in the language. Nothing is said about where it is wrong, in the API's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError;

/// The parts of a text.
pub(super) fn parse(text: &str) -> Result<Vec<Piece>, SyntaxError> {
    let mut parser = Parser { text, at: 0 };
    parser.pieces(0, false)
}

struct Parser<'a> {
    text: &'a str,
    /// How far it has come, in bytes.
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Passes `text` if that is next; whether it was.
    fn eat(&mut self, text: &str) -> bool {
        let is_next = self.rest().starts_with(text);
        if is_next {
            self.at += text.len();
        }
        is_next
    }

    /// Passes characters like this.
    fn eat_all(&mut self, like: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !like(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn expect(&mut self, text: &str) -> Result<(), SyntaxError> {
        if self.eat(text) { Ok(()) } else { Err(SyntaxError) }
    }

    fn spaces(&mut self) {
        self.eat_all(char::is_whitespace);
    }

    /// Up to the end, or, if it is `quoted`, up to the quote, which is passed.
    fn pieces(&mut self, depth: usize, quoted: bool) -> Result<Vec<Piece>, SyntaxError> {
        if depth > MAX_DEPTH {
            return Err(SyntaxError);
        }
        let (mut pieces, mut plain) = (Vec::new(), String::new());
        loop {
            if self.eat("$${") {
                plain.push_str("${");
            } else if self.eat("${") {
                if !plain.is_empty() {
                    pieces.push(Piece::Plain(std::mem::take(&mut plain)));
                }
                self.spaces();
                let start = self.at;
                let expression = self.expression(depth)?;
                pieces.push(Piece::Filled(expression, start));
                self.spaces();
                self.expect("}")?;
            } else if quoted && self.eat("\\") {
                plain.push(self.escaped()?);
            } else if quoted && self.eat("\"") {
                break;
            } else {
                match self.peek() {
                    None if quoted => return Err(SyntaxError),
                    None => break,
                    Some(c) => {
                        plain.push(c);
                        self.at += c.len_utf8();
                    }
                }
            }
        }
        if !plain.is_empty() {
            pieces.push(Piece::Plain(plain));
        }
        Ok(pieces)
    }

    fn escaped(&mut self) -> Result<char, SyntaxError> {
        for (escape, meant) in [("n", '\n'), ("\\", '\\'), ("\"", '"')] {
            if self.eat(escape) {
                return Ok(meant);
            }
        }
        Err(SyntaxError)
    }

    fn expression(&mut self, depth: usize) -> Result<Expression, SyntaxError> {
        if self.eat("\"") {
            return Ok(Expression::Text(self.pieces(depth + 1, true)?));
        }
        match self.peek() {
            Some(c) if c == '-' || c.is_ascii_digit() => self.number(),
            Some(c) if c == '_' || c.is_ascii_alphabetic() => self.named(depth),
            Some(_) | None => Err(SyntaxError),
        }
    }

    fn number(&mut self) -> Result<Expression, SyntaxError> {
        let start = self.at;
        self.eat("-");
        self.eat_all(|c| c.is_ascii_digit());
        let number = self.text[start..self.at].parse();
        number.map(Expression::Int).map_err(|_| SyntaxError)
    }

    fn named(&mut self, depth: usize) -> Result<Expression, SyntaxError> {
        let start = self.at;
        loop {
            let part = self.eat_all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
            if part.is_empty() {
                return Err(SyntaxError);
            }
            if !self.eat(".") {
                break;
            }
        }
        let name = self.text[start..self.at].to_owned();
        self.spaces();
        if !self.eat("(") {
            return Ok(Expression::Variable(name));
        }
        if depth >= MAX_DEPTH {
            return Err(SyntaxError);
        }
        let mut arguments = Vec::new();
        self.spaces();
        while !self.eat(")") {
            if !arguments.is_empty() {
                self.expect(",")?;
                self.spaces();
            }
            arguments.push(self.expression(depth + 1)?);
            self.spaces();
        }
        Ok(Expression::Call(name, arguments))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Piece {
        Piece::Plain(text.to_owned())
    }

    fn variable(name: &str, at: usize) -> Piece {
        Piece::Filled(Expression::Variable(name.to_owned()), at)
    }

    #[test]
    fn what_is_filled_in_stands_between_braces() {
        for (text, expected) in [
            ("", vec![]),
            ("a $ b } {", vec![plain("a $ b } {")]),
            ("$${name.full}", vec![plain("${name.full}")]),
            ("${ a-b.c_1 }", vec![variable("a-b.c_1", 3)]),
            (
                "x${a}y${b}",
                vec![plain("x"), variable("a", 3), plain("y"), variable("b", 8)],
            ),
            ("\"${a}\"", vec![plain("\""), variable("a", 3), plain("\"")]),
            (
                "${m( 1, -2 )}",
                vec![Piece::Filled(
                    Expression::Call("m".to_owned(), vec![Expression::Int(1), Expression::Int(-2)]),
                    2,
                )],
            ),
            (
                r#"${"a\"${b}"}"#,
                vec![Piece::Filled(
                    Expression::Text(vec![plain("a\""), variable("b", 8)]),
                    2,
                )],
            ),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn all_else_is_no_sentence() {
        let deep = format!("{}1{}", "${\"".repeat(50), "\"}".repeat(50));
        let calls = format!("${{{}1{}}}", "m(".repeat(50), ")".repeat(50));
        for text in [
            "${",
            "${}",
            "${a",
            "${a b}",
            "${a.}",
            "${a. b}",
            "${.a}",
            "${m(}",
            "${m(1}",
            "${m(1))}",
            "${m(1 2)}",
            "${m(1,)}",
            "${\"a}",
            "${\"\\x\"}",
            "${-}",
            "${9999999999999999999999}",
            "${[}",
            "${1+1}",
            &deep,
            &calls,
        ] {
            assert_eq!(parse(text), Err(SyntaxError), "{text}");
        }
    }
}
