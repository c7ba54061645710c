//! Cuts a filter into tokens.

use std::iter::Peekable;
use std::str::Chars;

use super::{Fault, FilterError, Operator};

/// A token and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) at: usize,
    pub(super) token: Token,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Open,
    Close,
    And,
    Or,
    Not,
    Operator(Operator),
    Literal(Literal),
    /// The end of the filter.
    End,
}

/// A word or a quoted text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Literal {
    /// Its characters, without quotes and escapes, and without a `*` at its end.
    pub(super) text: String,
    /// Whether a `*` stood at its end.
    pub(super) is_prefix: bool,
    /// Whether it stood in quotes.
    pub(super) is_quoted: bool,
}

struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
    /// The character that comes next, counted from 1.
    at: usize,
}

/// The tokens of a filter, [`Token::End`] last.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, FilterError> {
    let mut lexer = Lexer {
        rest: text.chars().peekable(),
        at: 1,
    };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space();
        let at = lexer.at;
        let token = lexer.token()?;
        let is_end = token == Token::End;
        tokens.push(Placed { at, token });
        if is_end {
            return Ok(tokens);
        }
    }
}

// === impl Lexer ===

impl Lexer<'_> {
    fn skip_space(&mut self) {
        while self.rest.peek().is_some_and(|c| is_space(*c)) {
            self.next();
        }
    }

    fn token(&mut self) -> Result<Token, FilterError> {
        let at = self.at;
        let Some(&first) = self.rest.peek() else {
            return Ok(Token::End);
        };
        match first {
            '(' => self.single(Token::Open),
            ')' => self.single(Token::Close),
            '=' => self.single(Token::Operator(Operator::Equal)),
            '<' => Ok(self.with_equals(Operator::Less, Operator::LessOrEqual)),
            '>' => Ok(self.with_equals(Operator::Greater, Operator::GreaterOrEqual)),
            '!' => {
                self.next();
                match self.next() {
                    Some('=') => Ok(Token::Operator(Operator::NotEqual)),
                    _ => Err(fault(at, Fault::Character)),
                }
            }
            '"' | '\'' => self.quoted(first),
            c if is_word(c) => self.word(),
            _ => Err(fault(at, Fault::Character)),
        }
    }

    fn single(&mut self, token: Token) -> Result<Token, FilterError> {
        self.next();
        Ok(token)
    }

    fn with_equals(&mut self, without: Operator, with: Operator) -> Token {
        self.next();
        if self.rest.next_if_eq(&'=').is_some() {
            self.at += 1;
            return Token::Operator(with);
        }
        Token::Operator(without)
    }

    fn word(&mut self) -> Result<Token, FilterError> {
        let mut literal = Literal::default();
        while let Some(&c) = self.rest.peek() {
            if !is_word(c) {
                break;
            }
            literal.push(c, false, self.at)?;
            self.next();
        }
        if literal.is_prefix {
            return Ok(Token::Literal(literal));
        }
        Ok(match literal.text.as_str() {
            "AND" => Token::And,
            "OR" => Token::Or,
            "NOT" => Token::Not,
            _ => Token::Literal(literal),
        })
    }

    fn quoted(&mut self, quote: char) -> Result<Token, FilterError> {
        let begin = self.at;
        let mut literal = Literal {
            is_quoted: true,
            ..Literal::default()
        };
        self.next();
        loop {
            let at = self.at;
            match self.next() {
                None => return Err(fault(begin, Fault::Unterminated)),
                Some(c) if c == quote => return Ok(Token::Literal(literal)),
                Some('\\') => match self.next() {
                    Some(c @ ('"' | '\'' | '*' | '\\')) => literal.push(c, true, at)?,
                    _ => return Err(fault(at, Fault::Escape)),
                },
                // No field can hold one, and PostgreSQL takes no NUL.
                Some(c) if c.is_control() => return Err(fault(at, Fault::Character)),
                Some(c) => literal.push(c, false, at)?,
            }
        }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.next();
        if c.is_some() {
            self.at += 1;
        }
        c
    }
}

// === impl Literal ===

impl Literal {
    fn push(&mut self, c: char, is_escaped: bool, at: usize) -> Result<(), FilterError> {
        if self.is_prefix {
            // The star before was not the last character.
            return Err(fault(at, Fault::Star));
        }
        if c == '*' && !is_escaped {
            self.is_prefix = true;
        } else {
            self.text.push(c);
        }
        Ok(())
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '\'' | '(' | ')' | ',' | '=' | '!' | '<' | '>' | '\\')
}

fn fault(at: usize, fault: Fault) -> FilterError {
    FilterError { at, fault }
}
